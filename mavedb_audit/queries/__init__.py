"""The read side: SQL on the audit's tables, and the views that it answers with. Nothing is written.

The command line, the HTTP routes and the page stand on it alone. Each function takes a connection;
who calls it has authorized the caller.
"""
