"""Options of `hams-ctl models list`, `show`, `inspect`, `pull`, `verify` and `prune`; what they do is in `actions`."""

from __future__ import annotations

from typing import Annotated

import typer

from hams_services.ctl.options import Debug, Json, Nats

models = typer.Typer(no_args_is_help=True, help="Networks: those that HAMS knows by name (the zoo), and your own.")

ModelService = Annotated[
    str | None, typer.Option("--service", "-s", help="Only those of F (faces), P (persons) or V (vehicles).")
]


@models.command("list")
def list_(service: ModelService = None, json: Json = False, debug: Debug = False) -> None:
    """List the networks of the zoo, and which of them are in the cache."""
    from hams_services.ctl.actions import models

    models.list_models(service, json, debug)


@models.command()
def show(
    name: Annotated[str, typer.Argument(help="NAME, NAME/HEAD, NAME@FP32, or NAME/HEAD@FP32.")],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show a network's manifest, and the node to paste into a group file."""
    from hams_services.ctl.actions import models

    models.show(name, json, debug)


@models.command("inspect")
def inspect_(
    source: Annotated[
        str, typer.Argument(metavar="FILE|SOURCE", help="A file, a folder with an IR, zoo:NAME, pypi:… or https://….")
    ],
    digest: Annotated[str | None, typer.Option("--digest", help="SHA-256 or SHA-384 of what https:// gives.")] = None,
    task: Annotated[str | None, typer.Option(help="Show the node for this task instead of the likeliest.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what is in a network file, on what it runs here, which tasks fit, and the node to paste into a group file.

    Reads ONNX, OpenVINO IR, TensorFlow Lite, TensorFlow (.pb) and Paddle (.pdmodel), in a process with limits.
    """
    from hams_services.ctl.actions import inspect

    inspect.inspect_model(source, digest, task, json, debug)


@models.command("pull")
def pull_(
    names: Annotated[list[str] | None, typer.Argument(help="NAME, or NAME@FP32 for another variant.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All networks of the zoo.")] = False,
    service: ModelService = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL|FOLDER",
            help="A mirror instead of the publishers; plain http and folders are allowed, because digests are checked.",
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Download networks into the cache; an interrupted download continues where it stopped.

    Without a variant, the first one of a network is meant. A mirror has its files as NAME/VARIANT/FILE (below
    intel/ too), NAME/FILE, VARIANT/FILE or FILE; a folder may have wheels as well.
    """
    from hams_services.ctl.actions import models

    models.pull_models(names or [], all_, service, base, json, debug)


@models.command("verify")
def verify_(json: Json = False, debug: Debug = False) -> None:
    """Read all files of the cache and compare their digests; exit code 1 if one is bad."""
    from hams_services.ctl.actions import models

    models.verify_models(json, debug)


@models.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    nats: Nats = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Delete model files from the broker's store that no group, kept version, plan, variant or upload needs.

    The leading scheduler does that by itself with files that nothing has needed for an hour. Do not prune while
    somebody deploys: files are uploaded before the record that needs them.
    """
    from hams_services.ctl.actions import model_prune

    model_prune.prune_models(dry_run, nats, json, debug)
