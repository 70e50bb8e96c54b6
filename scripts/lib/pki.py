# SPDX-License-Identifier: Apache-2.0
"""pki.py -- authorities and certificates out of openssl, for tests of TLS."""
import pathlib
import subprocess


class Authority:
    """A certificate authority of its own folder. Files are NAME.pem and NAME.key."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = pathlib.Path(folder), name
        self._openssl("req", "-x509", *self._new_key(name), "-days", "2", "-subj", f"/CN={name}", "-out", self.cert())

    def cert(self, name=None):
        return self.folder / f"{name or self.name}.pem"

    def key(self, name=None):
        return self.folder / f"{name or self.name}.key"

    def issue(self, name, *alternatives, days=2):
        """Makes a certificate for these subject alternative names ("IP:…", "URI:…"); returns the words that name the
        three files to ivds-ctl."""
        request = self.folder / f"{name}.csr"
        extension = ["-addext", f"subjectAltName={','.join(alternatives)}"] if alternatives else []
        self._openssl("req", *self._new_key(name), "-subj", f"/CN={name}", *extension, "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.cert(), "-CAkey", self.key(), "-CAcreateserial",
                      "-copy_extensions", "copy", "-days", days, "-out", self.cert(name))
        return self.words(name)

    def words(self, name):
        return ["--ca", self.cert(), "--cert", self.cert(name), "--key", self.key(name)]

    def _new_key(self, name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key(name)]

    @staticmethod
    def _openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
