"""nginx as on the Internet: TLS and HTTP/2 under a name for the page, and another for the bucket."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from tests.support.servers.edge import Edge

PAGE, BUCKET = "live.example.com", "video.example.com"
# Stands for the bucket's own domain: objects at the root, under the same certificate. The
# shipped line switches HTTP/2 on for both.
BUCKET_SERVER = """
server {{
    listen {listen} ssl;
    server_name {name};
    {certificate}
    access_log off;
    location / {{ proxy_http_version 1.1; proxy_pass {bucket}/; }}
}}
"""
VALID = timedelta(days=1)


class SecureEdge(Edge):
    """``page`` and ``bucket`` are the addresses that browsers get, ``flags`` let a Chromium go there.

    ``public_url`` is where the bucket really is.
    """

    def __init__(self, folder: Path, public_url: str) -> None:
        super().__init__(folder)
        self._listen, self._public_url = urlsplit(self.address).netloc, public_url
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.page, self.bucket = (f"https://{name}:{urlsplit(self.address).port}" for name in (PAGE, BUCKET))

    @property
    def flags(self) -> tuple[str, ...]:
        """Where the names are, and which key is trusted: all other checks of certificates stay."""
        public = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        digest = base64.b64encode(hashlib.sha256(public).digest()).decode()
        rules = ", ".join(f"MAP {name} 127.0.0.1" for name in (PAGE, BUCKET))
        return (f"--host-resolver-rules={rules}", f"--ignore-certificate-errors-spki-list={digest}")

    def configuration(self, origin: str) -> str:
        """The shipped lines for TLS switched on, and a server for the bucket beside them."""
        certificate, key = self.folder / "fullchain.pem", self.folder / "privkey.pem"
        certificate.write_bytes(self._certificate().public_bytes(Encoding.PEM))
        key.write_bytes(
            self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption_algorithm=NoEncryption())
        )
        shipped = f"/etc/letsencrypt/live/{PAGE}"
        lines = (f"ssl_certificate {certificate};", f"ssl_certificate_key {key};")
        self.changes = {
            "listen 80;": "",
            "# listen 443 ssl http2;": f"listen {self._listen} ssl http2;",
            f"# ssl_certificate {shipped}/fullchain.pem;": lines[0],
            f"# ssl_certificate_key {shipped}/privkey.pem;": lines[1],
        }
        return super().configuration(origin) + BUCKET_SERVER.format(
            listen=self._listen, name=BUCKET, certificate=" ".join(lines), bucket=self._public_url
        )

    def _certificate(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, PAGE)])
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - VALID)
            .not_valid_after(now + VALID)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(PAGE), x509.DNSName(BUCKET)]), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
