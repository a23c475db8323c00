"""The doctor on the way to the viewers: what an edge, a wrong address or a CORS policy does to them."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.judges.check_command import Alter, edge, examine, listening, settings_of
from tests.support.length import SOAK
from tests.support.servers.shared_bucket import client_of

PAGE = "https://watch.example.com"


class StrictBucket(SeaweedBucket):
    """SeaweedFS that sends no CORS headers of its own where the bucket has no policy, as R2 does."""

    def _command(self, config: Path) -> list[str | Path]:
        return [*super()._command(config), "-s3.allowedOrigins=https://nowhere.invalid"]


@pytest.fixture(autouse=True)
def hls(tmp_path: Path) -> None:
    """An HLS folder that is still empty."""
    (tmp_path / "hls").mkdir()


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[SeaweedBucket]:
    async with StrictBucket(tmp_path / "bucket") as running:
        yield running


async def test_no_cors_and_its_repair(tmp_path: Path, strict: SeaweedBucket) -> None:
    """Without a policy pages may not read; ``--fix`` sets one, and the next check is content."""
    settings = settings_of(tmp_path, strict)
    async with client_of(strict) as client:
        await client.delete_bucket_cors(Bucket=strict.bucket)
        found = await examine(tmp_path, settings, "--json")
        assert found.status == 1
        found.says("public-cors", "failed", "no Access-Control-Allow-Origin", "--fix")
        found.says("public-preflight", "warning", "it is answered 403", "CORS policy")

        mended = await examine(tmp_path, settings, "--fix", "--json")
        assert mended.status == 0, mended.output
        mended.says("fix-cors", "ok", "set: pages of * may read", "")
        mended.says("fix-lifecycle", "ok", "objects under live/ after 30 days", "")
        rules = (await client.get_bucket_lifecycle_configuration(Bucket=strict.bucket))["Rules"]
        assert [(rule["ID"], rule["Filter"]) for rule in rules] == [
            ("broadcaster-abort", {"Prefix": "live/"}),
            ("broadcaster-expire", {"Prefix": "live/"}),
        ]

        again = await examine(tmp_path, settings, "--json")
        assert again.status == 0
        for name in ("public-cors", "public-ranges", "public-preflight"):
            again.says(name, "ok", "", "")
        once_more = await examine(tmp_path, settings, "--fix", "--json")
        once_more.says("fix-cors", "ok", "nothing to do", "")


async def test_wrong_cors_and_its_repair(tmp_path: Path, strict: SeaweedBucket) -> None:
    """A policy for another page's origin does not help this one; a repair keeps the other's rule."""
    settings = settings_of(tmp_path, strict, BROADCASTER_RETENTION="keep")
    other = "https://other.example.com"
    async with client_of(strict) as client:
        await client.put_bucket_cors(
            Bucket=strict.bucket,
            CORSConfiguration={"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": [other]}]},
        )
        found = await examine(tmp_path, settings, "--json", "--origin", PAGE)
        assert found.status == 1
        found.says("public-cors", "failed", f"pages of {PAGE} may not read", "--origin")
        theirs = await examine(tmp_path, settings, "--json", "--origin", f"{other}/watch")
        theirs.says("public-cors", "ok", other, "")
        theirs.says("public-ranges", "warning", "Content-Range: it is not exposed", "--fix")

        mended = await examine(tmp_path, settings, "--fix", "--json", "--origin", PAGE)
        assert mended.status == 0, mended.output
        mended.says("fix-lifecycle", "ok", "objects are kept", "")
        policy = (await client.get_bucket_cors(Bucket=strict.bucket))["CORSRules"]
        assert [rule["AllowedOrigins"] for rule in policy] == [[PAGE], [other]]
        rules = (await client.get_bucket_lifecycle_configuration(Bucket=strict.bucket))["Rules"]
        assert [rule["ID"] for rule in rules] == ["broadcaster-abort"]


async def test_a_private_bucket(tmp_path: Path) -> None:
    """A public URL that wants a signature: the remedy is a custom domain."""
    async with SeaweedBucket(tmp_path / "bucket", anonymous=False) as bucket:
        found = await examine(tmp_path, settings_of(tmp_path, bucket), "--json")
    assert found.status == 1
    found.says("public-object", "failed", "answered 403", "custom domain")
    found.says("public-cors", "skipped", "needs public-object", "")


async def test_presigned_addresses(tmp_path: Path) -> None:
    """The same private bucket with signed addresses is right, and the signatures are not shown."""
    async with SeaweedBucket(tmp_path / "bucket", anonymous=False) as bucket:
        settings = settings_of(tmp_path, bucket, BROADCASTER_URLS="presigned", R2_PUBLIC_URL="")
        found = await examine(tmp_path, settings, "--json")
    assert found.status == 0, found.output
    for name in ("public-object", "public-cors", "public-ranges", "public-404"):
        found.says(name, "ok", "", "")


async def test_an_address_of_something_else(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """A site that has a page for everything, one with nothing, one that moved, one that is broken."""

    async def site(request: web.Request) -> web.Response:
        kind = request.path.split("/")[1]
        if kind == "moved":
            raise web.HTTPMovedPermanently("https://elsewhere.example.com/?token=x")
        return {
            "everything": web.Response(text="<html>", content_type="text/html"),
            "nothing": web.Response(status=404),
            "broken": web.Response(status=522),
        }[kind]

    async with listening(site) as address:
        for kind, name, message, remedy in [
            (
                "everything",
                "public-address",
                "answers 200 for an object that does not exist",
                "custom domain",
            ),
            ("moved", "public-address", "redirects to elsewhere.example.com", "final address"),
            ("broken", "public-address", "answers 522", "Cloudflare's dashboard"),
            ("nothing", "public-object", "not found there (404)", "without prefix or path"),
        ]:
            settings = settings_of(tmp_path, bucket, R2_PUBLIC_URL=f"{address}/{kind}")
            found = await examine(tmp_path, settings, "--json")
            assert found.status == 1
            found.says(name, "failed", message, remedy)


def keeps_404s() -> Alter:
    kept: set[str] = set()

    def alter(request: web.Request, response: web.Response) -> web.Response:
        if response.status == 404:
            kept.add(request.path)
        return web.Response(status=404, headers={"Age": "1"}) if request.path in kept else response

    return alter


def sets(**headers: str) -> Alter:
    def alter(_: web.Request, response: web.Response) -> web.Response:
        for name, value in headers.items():
            response.headers[name.replace("_", "-")] = value
        return response

    return alter


def allows_twice(_: web.Request, response: web.Response) -> web.Response:
    response.headers.add("Access-Control-Allow-Origin", "*")
    return response


def mangles(_: web.Request, response: web.Response) -> web.Response:
    if response.status == 200:
        response.body = b"x" * len(response.body)  # type: ignore[arg-type]
    return response


@pytest.mark.parametrize(
    ("alter", "name", "verdict", "message", "remedy"),
    [
        (keeps_404s(), "public-404", "warning", "keeps a 404", "status 404 to no-store"),
        (sets(CF_Cache_Status="DYNAMIC"), "public-cache", "warning", "does not cache", "cache rule"),
        (sets(CF_Cache_Status="HIT"), "public-cache", "ok", "HIT", ""),
        (
            sets(Cache_Control="max-age=14400"),
            "public-headers",
            "warning",
            "max-age=14400",
            "Browser Cache TTL",
        ),
        (sets(Content_Type="text/plain"), "public-headers", "warning", "text/plain", "existing headers"),
        (allows_twice, "public-cors", "failed", "comes twice", "Transform Rule"),
        (mangles, "public-object", "failed", "other bytes", "custom domain"),
        (sets(Content_Range="none"), "public-ranges", "warning", "a range is answered 206", "Range header"),
    ],
    ids=["404s", "uncached", "cached", "cache-control", "content-type", "twice", "mangled", "no-ranges"],
)
async def test_edges(  # noqa: PLR0913, PLR0917 - a table's columns
    tmp_path: Path, bucket: SeaweedBucket, alter: Alter, name: str, verdict: str, message: str, remedy: str
) -> None:
    """What an edge in front of the bucket can spoil is named, one thing at a time."""
    async with edge(bucket, alter) as address:
        found = await examine(tmp_path, settings_of(tmp_path, bucket, R2_PUBLIC_URL=address), "--json")
    found.says(name, verdict, message, remedy)
    assert found.status == (1 if verdict == "failed" else 0)
    others = {item for item in found.bad() if item.startswith("public-")} - {name, "public-protocol"}
    assert others == set()


@pytest.mark.parametrize("protocols", [["h2", "http/1.1"], ["http/1.1"]] if SOAK else [["h2", "http/1.1"]])
async def test_tls(
    tmp_path: Path, bucket: SeaweedBucket, protocols: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP/2 is seen in the TLS handshake, HTTP/3 in a header; an unknown certificate fails."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is missing")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=edge"
    alternative = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(subprocess.run, [*command.split(), *alternative], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(protocols)
    async with edge(bucket, sets(Alt_Svc='h3=":443"; ma=86400'), ssl_context=context) as address:
        settings = settings_of(tmp_path, bucket, R2_PUBLIC_URL=address)
        unknown = await examine(tmp_path, settings, "--json")
        assert unknown.status == 1
        unknown.says("public-address", "failed", "certificate is not accepted", "R2_PUBLIC_URL")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))  # which is read when a process starts
        found = await examine(tmp_path, settings, "--json", under=())
    assert found.status == 0, found.output
    found.says("public-object", "ok", "HTTP/3 offered", "")
    if "h2" in protocols:
        found.says("public-protocol", "ok", "HTTP/2", "")
        assert found.bad().keys() <= {"hls-playlists"}  # which may be new enough, or not
    else:
        found.says("public-protocol", "warning", "HTTP/1.1 only", "switch HTTP/2 on")


async def test_a_token_without_the_rights(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """The service's usual token may not change a bucket: ``--fix`` says which may, and what to paste.

    SeaweedFS does not distinguish these rights, so a proxy answers for R2.
    """
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def objects_only(request: web.Request) -> web.Response:
            if {"cors", "lifecycle"} & request.query.keys():
                error = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
                return web.Response(status=403, text=error, content_type="application/xml")
            url = URL(bucket.endpoint_url + request.raw_path, encoded=True)
            body = await request.read()
            async with session.request(request.method, url, headers=request.headers, data=body) as found:
                return web.Response(status=found.status, headers=found.headers, body=await found.read())

        async with listening(objects_only) as address:
            settings = settings_of(tmp_path, bucket, R2_ENDPOINT_URL=address)
            found = await examine(tmp_path, settings, "--fix", "--json")
            usual = await examine(tmp_path, settings, "--json")
    assert found.status == 1
    for name in ("fix-cors", "fix-lifecycle"):
        found.says(name, "failed", "the token may not change", "Admin Read & Write")
    found.says("fix-cors", "failed", "", '"AllowedHeaders": ["range"]')
    assert usual.status == 0, usual.output
