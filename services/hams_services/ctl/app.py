"""The commands of ``hams-ctl``, put together. One module per family of commands."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Annotated

import typer

import hams_shared
from hams_services.ctl.commands import credentials as users
from hams_services.ctl.commands import sink, token
from hams_services.ctl.commands.audit import audit
from hams_services.ctl.commands.backup import backup, restore
from hams_services.ctl.commands.cameras import cameras
from hams_services.ctl.commands.candidate import candidate
from hams_services.ctl.commands.change import diff, export, rollback, set_, stream, versions
from hams_services.ctl.commands.deploy import deploy, schema, undeploy
from hams_services.ctl.commands.diagnose import diagnose
from hams_services.ctl.commands.events import events
from hams_services.ctl.commands.forget_events import forget_events
from hams_services.ctl.commands.gallery import gallery
from hams_services.ctl.commands.history import history
from hams_services.ctl.commands.init import init
from hams_services.ctl.commands.init_group import init_group
from hams_services.ctl.commands.jobs import nco
from hams_services.ctl.commands.models import models
from hams_services.ctl.commands.plan import plan
from hams_services.ctl.commands.results import infer, results, tap
from hams_services.ctl.commands.show import devices, matrix, status
from hams_services.ctl.commands.trace import trace
from hams_services.ctl.commands.up import demo, join, up
from hams_services.ctl.commands.watch import metrics, top
from hams_shared.runtime.options import Credentials

app = typer.Typer(
    name="hams-ctl",
    help="Run groups of neural networks on all accelerators of an edge site, of whatever kind.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hams {hams_shared.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    credentials: Credentials = None,
) -> None:
    pass


_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Run": (up, join, demo, init),
    "Groups": (init_group, deploy, undeploy, plan, schema, backup, restore),
    "Change what runs": (diff, set_, versions, rollback, export),
    "Observe": (status, top, history, audit, metrics, matrix, trace, diagnose),
    "Results": (results, events, forget_events, infer, tap),
}
for panel, commands in _PANELS.items():
    for command in commands:
        app.command(command.__name__.rstrip("_").replace("_", "-"), rich_help_panel=panel)(command)
app.add_typer(users.app, name="credentials", rich_help_panel="Run")
app.add_typer(token.app, name="token", rich_help_panel="Run")
app.add_typer(stream, name="stream", rich_help_panel="Change what runs")
app.add_typer(cameras, name="cameras", rich_help_panel="Groups")
app.add_typer(candidate, name="candidate", rich_help_panel="Change what runs")
app.add_typer(devices, name="devices", rich_help_panel="Observe")
app.add_typer(models, name="models", rich_help_panel="Models")
app.add_typer(nco, name="nco", rich_help_panel="Models")
app.add_typer(gallery, name="gallery", rich_help_panel="Results")
app.add_typer(sink.app, name="sink", rich_help_panel="Results")


def _join_lines(of: typer.Typer) -> None:
    """Let help texts flow: typer keeps the line ends of all paragraphs but the first."""
    for command in of.registered_commands:
        text = inspect.cleandoc(command.help or (command.callback and command.callback.__doc__) or "")
        command.help = re.sub(r"(?<!\n)\n(?!\n)", " ", text)
    for group in of.registered_groups:
        if group.typer_instance is not None:
            _join_lines(group.typer_instance)


_join_lines(app)
