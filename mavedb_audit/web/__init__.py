"""The page: server-rendered HTML over the read side, and the operators' verbs as forms.

It reads without JavaScript; the one script moves a running pipeline along. Nothing is fetched from
elsewhere.
"""
