"""Asks one ONVIF camera for its make, model, and streams, by onvif-zeep-async (``hams[onvif]``)."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import onvif
from onvif.util import is_auth_error
from zeep.exceptions import Fault, TransportError

from hams_services.ctl.onvif.camera import OnvifCamera, Profile, as_text, stream_url
from hams_services.ctl.onvif.search import Answer
from hams_shared.errors import DeadlineError, HamsError, MessageError, RefusedError, SourceError

for _name in ("onvif", "zeep"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # their debug logs hold requests with digests of passwords

WSDL = Path(onvif.__file__).parent / "wsdl"
MOST_PROFILES = 256
"""A recorder has several for each of its cameras."""
STREAM = {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}


@dataclass(frozen=True)
class Login:
    """User and password at a camera."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Login(***)"


async def load() -> None:
    """Read the descriptions of ONVIF's services, which takes a second; later questions do not."""
    for name in ("devicemgmt", "media"):
        await (await _service(name, "http://localhost", None)).close()


async def ask(answer: Answer, login: Login | None, seconds: float) -> OnvifCamera:
    """Return what a device offers. Its error is in the result, with what it answered before."""
    if answer.error is not None:
        return OnvifCamera(answer.address, error=answer.error)
    device = _Device(answer, login)
    host = urlsplit(answer.address).netloc
    try:
        async with asyncio.timeout(seconds):
            await device.ask()
    except TimeoutError:
        error: HamsError = DeadlineError(
            f"{host} does not answer within {seconds:g} s", "is it on? --timeout waits longer"
        )
    except HamsError as known:
        error = known
    except Exception as foreign:  # whatever the libraries make of what a device answers
        error = _explained(foreign, host, login)
    else:
        return device.camera
    finally:
        await device.close()
    return replace(device.camera, error=error)


class _Device:
    """A conversation with one device."""

    def __init__(self, answer: Answer, login: Login | None) -> None:
        self.camera = OnvifCamera(answer.address, answer.name, answer.model)
        self._login = login
        self._host = urlsplit(answer.address)
        self._services: list[Any] = []

    async def ask(self) -> None:
        """Ask all there is to know; `camera` holds what is known so far."""
        device = await self._open("devicemgmt", self.camera.address)
        if self._login is not None:
            await self._take_time(device)
        told = await self._call(device, "GetDeviceInformation")
        model = as_text(f"{told.Manufacturer or ''} {told.Model or ''}")
        self.camera = replace(self.camera, name=self.camera.name or model, model=model or self.camera.model)
        media = await self._open("media", await self._media_address(device))
        media.dt_diff = device.dt_diff
        await media.setup()
        for profile in (await self._call(media, "GetProfiles") or [])[:MOST_PROFILES]:
            if profile.VideoSourceConfiguration is not None:
                found = await self._profile(media, profile)
                self.camera = replace(self.camera, profiles=(*self.camera.profiles, found))
        if not self.camera.profiles:
            raise SourceError(f"{self._host.netloc} has no media profile", "make one at the camera's own web page")

    async def close(self) -> None:
        """Close its connections."""
        for service in self._services:
            await service.close()

    async def _open(self, name: str, address: str) -> Any:
        service = await _service(name, address, self._login)
        self._services.append(service)
        return service

    async def _take_time(self, device: Any) -> None:
        """Take the difference to the device's clock: a digest holds a time, and is valid for minutes."""
        told = (await self._open_call(device, "GetSystemDateAndTime")).UTCDateTime
        if told is not None:
            date, time = told.Date, told.Time
            its = datetime(date.Year, date.Month, date.Day, time.Hour, time.Minute, min(time.Second, 59), tzinfo=UTC)
            device.dt_diff = its - datetime.now(UTC)
            await device.setup()

    async def _media_address(self, device: Any) -> str:
        """Return the URL of its media service, at the host that answers: behind NAT devices state another one."""
        try:
            services = await self._open_call(device, "GetServices", {"IncludeCapability": False})
            found = [one.XAddr for one in services or [] if one.Namespace == onvif.SERVICES["media"]["ns"]]
        except Fault:  # older devices
            found = []
        if not found:
            told = await self._open_call(device, "GetCapabilities", {"Category": ["Media"]})
            found = [told.Media.XAddr] if told is not None and told.Media is not None else []
        if not found:
            raise SourceError(f"{self._host.netloc} has no media service", "is it a camera?")
        address = urlsplit(str(found[0]))
        if address.hostname != self._host.hostname:
            address = address._replace(scheme=self._host.scheme, netloc=self._host.netloc)
        return address.geturl()

    async def _profile(self, media: Any, profile: Any) -> Profile:
        encoder = profile.VideoEncoderConfiguration
        size = encoder.Resolution if encoder is not None else None
        rate = encoder.RateControl if encoder is not None else None
        try:
            told = await self._call(media, "GetStreamUri", {"StreamSetup": STREAM, "ProfileToken": profile.token})
            url = stream_url(told.Uri if told is not None else None, self._host.hostname or "")
        except Fault as fault:
            if is_auth_error(fault):
                raise
            url = ""  # this profile cannot be streamed; others can
        return Profile(
            as_text(profile.Name) or as_text(profile.token),
            as_text(profile.VideoSourceConfiguration.SourceToken),
            int(size.Width or 0) if size is not None else 0,
            int(size.Height or 0) if size is not None else 0,
            float(rate.FrameRateLimit) if rate is not None and rate.FrameRateLimit else None,
            as_text(encoder.Encoding) if encoder is not None else "",
            url,
        )

    async def _call(self, service: Any, operation: str, parameters: Any = None) -> Any:
        """Call with the login, if there is one."""
        return await getattr(service, operation if self._login else f"authless_{operation}")(parameters)

    async def _open_call(self, service: Any, operation: str, parameters: Any = None) -> Any:
        """Call what devices must answer without a login; some want one nevertheless."""
        try:
            return await getattr(service, f"authless_{operation}")(parameters)
        except (Fault, TransportError):
            if self._login is None:
                raise
            return await self._call(service, operation, parameters)


async def _service(name: str, address: str, login: Login | None) -> Any:
    of = onvif.SERVICES[name]
    binding = f"{{{of['ns']}}}{of['binding']}"
    user, password = (login.user, login.password) if login else ("", "")
    service = onvif.ONVIFService(address, user, password, f"{WSDL}/{of['wsdl']}", no_cache=True, binding_name=binding)
    await service.setup()
    return service


def _explained(error: Exception, host: str, login: Login | None) -> HamsError:
    """Map what the libraries raise."""
    if is_auth_error(error) or (isinstance(error, TransportError) and error.status_code in (401, 403)):
        if login is None:
            return RefusedError(f"{host} asks for a user and password", "--user NAME; the password is asked for")
        return RefusedError(f"{host} refuses user and password", "ONVIF users may differ from those of its web page")
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        known = cause.errno is not None and cause.errno > 0
        return SourceError(f"{host} cannot be reached: {os.strerror(cause.errno or 0) if known else cause.strerror}")
    if isinstance(error, aiohttp.ClientError):
        return SourceError(f"{host} breaks off: {as_text(error) or type(error).__name__}")
    if isinstance(error, Fault):
        return RefusedError(f"{host} refuses: {as_text(error.message)}")
    return MessageError(f"{host} answers what is not valid ONVIF ({type(error).__name__})", "is it a camera?")
