"""The proxies of docs/webhooks.md, as they stand there, before a real webhook."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.support.hooked import free_port
from tests.support.process import ROOT
from tests.support.require import require
from tests.unit.webhook.test_receiver import EVENT, SECRET, House, certificate, house, signed
from zoomrelay.webhook.verification import answer_to_challenge

pytestmark = pytest.mark.full
DOCUMENT = (ROOT / "docs" / "webhooks.md").read_text()
NGINX = """
user root; daemon off; pid {place}/nginx.pid; error_log {place}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    {block}
}}
"""
CADDY = "{{\n\tadmin off\n\tauto_https off\n\tstorage file_system {place}\n}}\n{block}"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found is not None
    return found[1]


def nginx(place: Path, port: int, behind: int, pem: Path) -> list[str]:
    changes = {
        "127.0.0.1:8080": f"127.0.0.1:{behind}",
        "listen 443": f"listen 127.0.0.1:{port}",
        "/etc/nginx/relay.pem": str(pem),
        "/etc/nginx/relay.key": str(pem),
    }
    file = place / "nginx.conf"
    file.write_text(NGINX.format(place=place, block=changed("nginx", changes)))
    return [require("nginx"), "-p", str(place), "-e", str(place / "error.log"), "-c", str(file)]


def caddy(place: Path, port: int, behind: int, pem: Path) -> list[str]:
    changes = {
        "127.0.0.1:8080": f"127.0.0.1:{behind}",
        "relay.example.com {": f"https://localhost:{port} {{\n\ttls {pem} {pem}",
    }
    file = place / "Caddyfile"
    file.write_text(CADDY.format(place=place, block=changed("caddy", changes)))
    return [require("caddy"), "run", "--adapter", "caddyfile", "--config", str(file)]


def changed(language: str, changes: dict[str, str]) -> str:
    text = block(language)
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextmanager
def running(command: list[str], place: Path) -> Iterator[None]:
    with (place / "proxy.log").open("wb") as log:
        proxy = subprocess.Popen(
            command, stdout=log, stderr=log, env={"HOME": str(place), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        )
        try:
            yield
        finally:
            proxy.terminate()
            proxy.wait(20)


async def until_open(port: int, place: Path) -> None:
    for _ in range(400):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise AssertionError((place / "proxy.log").read_text())


@pytest.mark.parametrize("proxy", [nginx, caddy])
async def test_the_documented_proxy(tmp_path: Path, proxy: object) -> None:
    assert callable(proxy)
    port, behind, pem = free_port(), free_port(), certificate(tmp_path, "localhost")
    with running(proxy(tmp_path, port, behind, pem), tmp_path):
        await until_open(port, tmp_path)
        async with aiohttp.ClientSession() as http:
            it: House
            async with house(listen=f"127.0.0.1:{behind}") as it:
                it.http, it.url = http, f"https://localhost:{port}"
                challenge = b'{"event":"endpoint.url_validation","payload":{"plainToken":"abc"},"event_ts":1}'
                assert await it.ask(challenge) == (200, answer_to_challenge(SECRET.encode(), challenge))
                for _ in range(5):
                    assert await it.post() == 200
                assert it.intake.taken == [EVENT] * 5, "byte for byte"
                big = b'{"event":"x","payload":"' + b"y" * 900_000 + b'"}'
                assert await it.post(big) == 200 and it.intake.taken[-1] == big
                # Closed unread: whether the proxy sees the answer or the end first is chance.
                assert await it.post(b"x" * 1_100_000) in (413, 502)
                assert await it.post(signed=False) == 401
                assert await it.post(path="/") == 404 and await it.post(path="/metrics") == 404
                it.intake.blocked = True
                assert await it.post() == 503
            for _ in range(2):
                async with http.post(
                    it.url + "/webhook", data=EVENT, headers=signed(EVENT), ssl=_any()
                ) as answer:
                    assert answer.status == 502, "Zoom is to send it again"


def _any() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
