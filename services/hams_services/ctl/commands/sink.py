"""Options of `hams-ctl sink` commands; what they do is in `actions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug, GroupName, Nats, check_address, check_kinds, duration_s

Stream = Annotated[str, typer.Option(help="Only this stream.")]
Count = Annotated[int | None, typer.Option("--count", "-n", min=1, help="Stop after this many frames.")]

Authority = Annotated[
    Path | None, typer.Option(envvar="HAMS_MQTT_CA", help="Certificates that the broker's must be signed by.")
]
Certificate = Annotated[Path | None, typer.Option(envvar="HAMS_MQTT_CERT", help="Certificate of this client.")]
Key = Annotated[Path | None, typer.Option(envvar="HAMS_MQTT_KEY", help="Key of this client's certificate.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        envvar="HAMS_MQTT_PASSWORD_FILE", help="File with the password of the user that HAMS_MQTT_USER names."
    ),
]

FOREVER = "forever"


def kept_s(text: str) -> float | None:
    """Return how long files are kept, s; None: for ever. Raises typer.BadParameter."""
    return None if text == FOREVER else duration_s(text)


def check_kept(text: str) -> str:
    """Check how long files are kept, as the callback of an option."""
    kept_s(text)
    return text


Keep = Annotated[
    str,
    typer.Option(metavar="TIME", help="Delete files after so long: 12h, 30d, forever.", callback=check_kept),
]

app = typer.Typer(
    help="Write results as they arrive: to a video, a web page, lines of JSON, folders of crops or clips; send events.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def video(
    group: GroupName,
    file: Annotated[Path, typer.Argument(help="Video to write: .mp4 or .mkv.")],
    stream: Stream = "*",
    count: Count = None,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Write a video with the results drawn in, each frame at its own time, until Ctrl-C; one file per stream."""
    from hams_services.ctl.actions import sink

    sink.video(group, file, stream, count, nats, debug)


@app.command()
def mjpeg(
    group: GroupName,
    listen: Annotated[
        str, typer.Option(help="Address and port to serve on.", callback=check_address)
    ] = "127.0.0.1:8088",
    stream: Stream = "*",
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Show the streams live on a web page (Motion JPEG), until Ctrl-C."""
    from hams_services.ctl.actions import sink

    sink.mjpeg(group, listen, stream, nats, debug)


@app.command()
def crops(
    group: GroupName,
    folder: Annotated[Path, typer.Argument(help="Folder to write into.")],
    label: Annotated[list[str] | None, typer.Option(help="Only objects with this label; repeat for more.")] = None,
    least: Annotated[float, typer.Option(min=0, max=1, help="Least score of an object.")] = 0.0,
    stream: Stream = "*",
    keep: Keep = "30d",
    count: Count = None,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Write an image of each object found, until Ctrl-C."""
    from hams_services.ctl.actions import sink

    sink.crops(group, folder, label or [], least, stream, count, kept_s(keep), nats, debug)


@app.command()
def jsonl(
    group: GroupName,
    file: Annotated[str, typer.Argument(help="File to append to; - is the standard output.")] = "-",
    stream: Stream = "*",
    count: Count = None,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Append each joined result as a line of JSON, until Ctrl-C."""
    from hams_services.ctl.actions import sink

    sink.jsonl(group, file, stream, count, nats, debug)


@app.command()
def webhook(
    group: GroupName,
    url: Annotated[
        str | None, typer.Argument(envvar="HAMS_WEBHOOK_URL", help="Web address to post each event to, as JSON.")
    ] = None,
    rule: Annotated[list[str] | None, typer.Option(help="Only events of this rule; repeat for more.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only these kinds of events, separated by commas.", callback=check_kinds)
    ] = None,
    stream: Annotated[str | None, typer.Option(help="Only this stream.")] = None,
    queue: Annotated[
        Path | None, typer.Option(help="File for events that wait, and where to read on: a restart continues there.")
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(envvar="HAMS_WEBHOOK_SECRET_FILE", help="Secrets to sign with: whsec_… , one a line."),
    ] = None,
    notify: Annotated[
        str | None,
        typer.Option(envvar="HAMS_NOTIFY_URL", help="Notify at this address of apprise instead, as ntfy://TOPIC."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of a notification, with fields in braces.")] = None,
    body: Annotated[str | None, typer.Option(help="Its text. Default: {text}, a sentence.")] = None,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Send events of tracks to a web address or as notifications, each at least once and in order, until Ctrl-C.

    An answer other than 2xx is tried again with growing pauses; 3xx and 4xx (but 408, 425, 429) are refusals.
    """
    from hams_services.ctl.actions import webhook

    to = webhook.To(url, secret_file, notify, title, body)
    webhook.webhook(group, to, rule or [], kind, stream, queue, nats, debug)


@app.command()
def clips(
    group: GroupName,
    folder: Annotated[Path, typer.Argument(help="Folder to write into; one for each `sink clips` that runs.")],
    stream: Annotated[str | None, typer.Option(help="Only this stream.")] = None,
    rule: Annotated[list[str] | None, typer.Option(help="Only events of this rule; repeat for more.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="These kinds of events, separated by commas. Default: events of rules.", callback=check_kinds
        ),
    ] = None,
    before: Annotated[float, typer.Option(min=0, max=60, help="Begin so long before the event, s.")] = 5.0,
    after: Annotated[float, typer.Option(min=0, max=600, help="Go on so long after the event, s.")] = 5.0,
    annotate: Annotated[bool, typer.Option("--annotate/--plain", help="Draw the results in, or not.")] = True,
    crop: Annotated[bool, typer.Option("--crop", help="Write the best crop of each event's track, too.")] = False,
    keep: Keep = "30d",
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Write a short video of each event, from before to after it, until Ctrl-C.

    Events that follow each other closely share a video. FOLDER/clips.jsonl has a line for each event.
    """
    from hams_services.ctl.actions import clips

    clips.clips(group, folder, stream, rule or [], kind, (before, after), annotate, crop, kept_s(keep), nats, debug)


@app.command()
def mqtt(
    groups: Annotated[list[str] | None, typer.Argument(metavar="GROUP", help="Groups to publish.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All groups, also those that are deployed later.")] = False,
    broker: Annotated[
        str, typer.Option(envvar="HAMS_MQTT_URL", help="The MQTT broker: mqtt[s]://HOST[:PORT].")
    ] = "mqtt://127.0.0.1:1883",
    ca: Authority = None,
    cert: Certificate = None,
    key: Key = None,
    password_file: PasswordFile = None,
    base: Annotated[
        str, typer.Option(envvar="HAMS_MQTT_BASE", help="What all topics begin with; one for each bridge.")
    ] = "hams",
    discovery: Annotated[
        str, typer.Option(envvar="HAMS_MQTT_DISCOVERY", help="Home Assistant's discovery prefix; '': no discovery.")
    ] = "homeassistant",
    kind: Annotated[
        str | None,
        typer.Option(
            help="Kinds of events to publish, separated by commas. Default: all but update.", callback=check_kinds
        ),
    ] = None,
    snapshots: Annotated[
        bool, typer.Option("--snapshots/--no-snapshots", help="A picture of each event of a rule, zone or line.")
    ] = True,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Publish events and states of groups on an MQTT broker, with Home Assistant's discovery, until Ctrl-C.

    User and password: HAMS_MQTT_USER, and HAMS_MQTT_PASSWORD_FILE or HAMS_MQTT_PASSWORD. See docs/home-assistant.md.
    """
    from hams_services.ctl.actions import mqtt

    files = mqtt.Files(ca, cert, key, password_file)
    mqtt.mqtt(groups or [], every, broker, files, base, discovery, kind, snapshots, nats, debug)
