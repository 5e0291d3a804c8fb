"""The reference pages that are made from code. `make docs` writes them."""

from docs.generate import commands, plans, routes, watching


def pages() -> dict[str, str]:
    """Each page by its path in docs/."""
    return {
        "reference/reasons.md": plans.reasons(),
        "reference/pipelines.md": plans.pipelines(),
        "reference/http.md": routes.http(),
        "reference/metrics.md": watching.metrics(),
        "reference/logs.md": watching.logs(),
        "reference/alerts.md": watching.alerts(),
        "reference/cli.md": commands.cli(),
        "reference/cli-output.md": commands.cli_output(),
    }
