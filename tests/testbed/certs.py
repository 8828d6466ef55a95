"""Keys and certificates of a cluster, by the openssl command. P-256 throughout: made in milliseconds."""

import os
from pathlib import Path

from .process import run

_CONFIG = "[req]\ndistinguished_name = dn\n[dn]\n"


class Authority:
    """A certificate authority whose files are <folder>/<name>.crt and .key."""

    def __init__(self, folder, name, common_name=None):
        self.folder = Path(folder)
        self.certificate = self.folder / f"{name}.crt"
        self.key = self.folder / f"{name}.key"
        self._config = self.folder / "openssl.cnf"
        if common_name is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._config.write_text(_CONFIG)
            self._request(
                self.certificate,
                self.key,
                common_name,
                [],
                [
                    "basicConstraints=critical,CA:TRUE",
                    "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
                    "subjectKeyIdentifier=hash",
                ],
                [],
            )

    def issue(self, name, common_name, organizations=(), addresses=(), names=(), server=False, days=365):
        """Writes <folder>/<name>.crt and .key: a client certificate, or with `server` one for both roles."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        extensions = [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature,keyEncipherment",
            "extendedKeyUsage=" + ("serverAuth,clientAuth" if server else "clientAuth"),
            "authorityKeyIdentifier=keyid",
        ]
        alternatives = [f"IP:{address}" for address in addresses] + [f"DNS:{dns}" for dns in names]
        if alternatives:
            extensions.append("subjectAltName=" + ",".join(alternatives))
        self._request(certificate, key, common_name, organizations, extensions, ["-CA", self.certificate, "-CAkey", self.key], days)
        return certificate, key

    def _request(self, certificate, key, common_name, organizations, extensions, signing, days=3650):
        subject = "".join(f"/O={_escape(organization)}" for organization in organizations) + f"/CN={_escape(common_name)}"
        argv = [
            "openssl",
            "req",
            "-x509",
            "-config",
            self._config,
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            subject,
            "-days",
            days,
            "-keyout",
            key,
            "-out",
            certificate,
            *signing,
        ]
        for extension in extensions:
            argv += ["-addext", extension]
        run(argv, f"openssl cannot make {certificate.name}")
        os.chmod(key, 0o600)

    def sign_request(self, request_pem, work_folder, usages, days=30):
        """Signs somebody's PEM certificate request, keeping its subject and alternative names. Returns the certificate."""
        folder = Path(work_folder)
        folder.mkdir(parents=True, exist_ok=True)
        request, extensions = folder / "request.pem", folder / "extensions.cnf"
        request.write_text(request_pem)
        names = {
            "server auth": "serverAuth",
            "client auth": "clientAuth",
            "digital signature": "digitalSignature",
            "key encipherment": "keyEncipherment",
        }
        asked = [names[usage] for usage in usages if usage in names]
        extensions.write_text(
            "basicConstraints=critical,CA:FALSE\n"
            "authorityKeyIdentifier=keyid\n"
            f"keyUsage=critical,{','.join(use for use in asked if not use.endswith('Auth')) or 'digitalSignature'}\n"
            f"extendedKeyUsage={','.join(use for use in asked if use.endswith('Auth')) or 'serverAuth'}\n"
        )
        # copyall would let a request ask for any usage; with copy, what the signer sets itself wins.
        return run(
            [
                "openssl",
                "x509",
                "-req",
                "-in",
                request,
                "-CA",
                self.certificate,
                "-CAkey",
                self.key,
                "-days",
                days,
                "-copy_extensions",
                "copy",
                "-extfile",
                extensions,
            ],
            "openssl cannot sign the request",
        )


def make_key(path):
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path], "openssl cannot make a key")
    os.chmod(path, 0o600)


def public_key(path, into):
    run(["openssl", "pkey", "-in", path, "-pubout", "-out", into], "openssl cannot write the public key")


def _escape(part):
    return part.replace("\\", "\\\\").replace("/", "\\/")
