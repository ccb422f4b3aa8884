"""
`python -m config.check_fuzz`: schemathesis tries every operation of the API's own document against a running server.

An exchange of its own is started on 127.0.0.1, with a market in delivery and the keys of an operator, a buyer, a
provider and a meter. What each may not do is refused; what nobody may see is an answer of 500 or above, a status or a
content that the document does not name. Arguments name who asks (all four); `CASES` says how many examples of each
operation are made up on top of those that its limits suggest (20).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from config.instance import ROOT, Instance

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
#: Who asks: the least that may do most of what the document has.
WHO = ("operator", "buyer", "provider", "meter")
PREPARE = """
import django; django.setup()
import json
from datetime import timedelta
from core import clock
from tests.given import given_api, given_deployment, given_grade, given_money, given_organization
from tests.metering.given import given_contract, given_market, given_meter, given_meter_key
provider, buyer = given_money(given_organization("provider")), given_money(given_organization("buyer"))
deployment = given_deployment(provider, given_grade())
market = given_market(deployment.grade, clock.now() - timedelta(minutes=10), hours=2)
given_contract(deployment, buyer, market)
asking = {"operator": given_organization("operator"), "buyer": buyer, "provider": provider}
keys = {who: given_api(organization).secret for who, organization in asking.items()}
print(json.dumps(keys | {"meter": given_meter_key(given_meter(deployment))}))
"""


def fuzz(url: str, key: str, who: str, *, folder: Path) -> int:
    """Try the document's operations with one key; returns schemathesis' exit status. `folder` takes what it leaves."""
    print(f"— as {who}", flush=True)
    command: list[str | Path] = [
        Path(sys.executable).with_name("schemathesis"), "run", f"{url}/v1/schema", "--url", url, "-H",
        f"Authorization: Bearer {key}", "--checks", CHECKS, "--continue-on-failure", "--phases",
        "examples,coverage,fuzzing", "--max-examples", os.environ.get("CASES", "20"), "--seed", "1",
        "--request-timeout", "20", "--suppress-health-check", "all", "--no-color", "--generation-database", "none",
    ]  # fmt: skip
    if who != "meter":
        # Its own key, once revoked, lets nothing in any more.
        command += ["--exclude-path-regex", "^/v1/(keys|api-keys)"]
    else:
        command += ["--include-path-regex", "^/v1/(events|manifests|readings|service/reports)"]
    return subprocess.run(command, cwd=folder, check=False).returncode


def _wait(url: str) -> None:
    for _ in range(600):
        try:
            httpx.get(f"{url}/healthz", timeout=5)
            return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise TimeoutError(f"Nothing answers at {url}.")


def main(asking: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="ciyuan-fuzz-") as folder:
        instance = Instance(
            var=Path(folder, "var"), matching_workers=0, workers=0, beat=False,
            settings={"CIYUAN_MATCHING_WORKERS": "1"},
        )  # fmt: skip
        try:
            instance.start(wait=False)
            _wait(instance.base_url)
            made = subprocess.run(
                [sys.executable, "-c", PREPARE], cwd=ROOT, env=instance.environment(), capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            if made.returncode:
                print(made.stderr, file=sys.stderr)
                return made.returncode
            keys = json.loads(made.stdout.splitlines()[-1])
            return max(fuzz(instance.base_url, keys[who], who, folder=Path(folder)) for who in asking)
        finally:
            instance.stop()
            instance.remove()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or WHO))
