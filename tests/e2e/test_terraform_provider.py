"""Our provider with the real terraform, from a mirror of files: made, changed, missed, replaced, imported, gone, and no process of it left."""
import concurrent.futures
import contextlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request

import pytest

from harness.server import ROOT, until

PROVIDER = ROOT / "contrib/terraform/provider"
MODULES = ROOT / "build/terraform/node_modules"
TERRAFORM = shutil.which("terraform")
PLATFORMS = {"x86_64": "linux_amd64", "aarch64": "linux_arm64"}
MANY = 10

HEAD = """
terraform {
  required_providers {
    mere = { source = "mere.local/mere/mere" }
  }
}
variable "project" { type = string }
"""

BRANCHES = HEAD + """
variable "parent" { default = "main" }
variable "labels" {
  type    = map(string)
  default = { by = "test" }
}
variable "owner" { default = "app" }
resource "mere_branch" "many" {
  count       = %d
  project     = var.project
  name        = "many-${count.index}"
  labels      = var.labels
  ttl_seconds = 86400
}
resource "mere_branch" "moved" {
  project = var.project
  name    = "moved"
  parent  = var.parent
}
resource "mere_endpoint" "reader" {
  project                 = var.project
  name                    = "reader"
  branch                  = mere_branch.many[0].id
  type                    = "read_only"
  suspend_timeout_seconds = 600
}
resource "mere_role" "app" {
  for_each = toset(["app", "other"])
  project  = var.project
  branch   = mere_branch.many[0].id
  name     = each.key
}
resource "mere_database" "app" {
  project    = var.project
  branch     = mere_branch.many[0].id
  name       = "app"
  owner_name = mere_role.app[var.owner].name
}
output "uri" {
  value     = mere_database.app.connection_uri
  sensitive = true
}
output "branch_uri" {
  value     = mere_branch.many[0].connection_uri
  sensitive = true
}
""" % MANY

ONE = HEAD + """
resource "mere_branch" "one" {
  project    = var.project
  name       = "one"
  expires_at = "2090-01-01T00:00:00Z"
  labels     = {}
}
"""


def one(body):
    return HEAD + 'resource "mere_branch" "one" {\n  project = var.project\n  name = "one"\n  %s\n}\n' % body


class Terraform:
    """One directory with a configuration."""

    def __init__(self, mere, project, home):
        self.home, self.key = home, mere.key
        mirror = home / "mirror/mere.local/mere/mere/0.1.0" / PLATFORMS[os.uname().machine]
        mirror.mkdir(parents=True)
        (mirror / "terraform-provider-mere_v0.1.0").symlink_to(PROVIDER / "terraform-provider-mere")
        (home / "rc").write_text('provider_installation {\n  filesystem_mirror {\n    path = "%s"\n  }\n}\n' % (home / "mirror"))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "MERE_")) and not k.lower().endswith("_proxy")}
        self.env = {**kept, "NODE_PATH": str(MODULES), "MERE_API_URL": mere.api_url, "MERE_API_KEY": mere.key, "CHECKPOINT_DISABLE": "1",
                    "TF_CLI_CONFIG_FILE": str(home / "rc"), "TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "TF_VAR_project": project.id}

    def write(self, text):
        (self.home / "main.tf").write_text(text)
        if not (self.home / ".terraform").exists():
            self.run("init")
        return self

    def start(self, verb, *words, env=None, **variables):
        env = {**self.env, **(env or {}), **{f"TF_VAR_{k}": v for k, v in variables.items()}}
        return subprocess.Popen([TERRAFORM, f"-chdir={self.home}", verb, *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, verb, *words, expect=0, **variables):
        flags = [] if verb in ("output", "state") else ["-no-color", *(["-auto-approve"] if verb in ("apply", "destroy") else [])]
        with self.start(verb, *flags, *words, **variables) as process:
            said, _ = process.communicate(timeout=120)
        assert process.returncode == expect, said
        assert self.key not in said
        return said

    def plan(self, expect, **variables):
        return self.run("plan", "-detailed-exitcode", expect=expect, **variables)

    def refused(self, verb, *words, **variables):
        """What it says, as one line: terraform breaks and frames it."""
        return " ".join(self.run(verb, *words, expect=1, **variables).replace("│", " ").split())

    def state(self, address):
        shown = json.loads(self.run("show", "-json"))["values"]["root_module"]["resources"]
        return next(r["values"] for r in shown if r["address"] == address)

    def processes(self):
        """Those of terraform and of the provider: they have its environment."""
        mark, found = f"TF_CLI_CONFIG_FILE={self.home / 'rc'}\0".encode(), []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes())
            except OSError:
                pass
        return found


@pytest.fixture
def terraform(mere, project, tmp_path):
    if not TERRAFORM:
        pytest.skip("there is no terraform here")
    if not shutil.which("node") or not (MODULES / "@grpc/grpc-js").is_dir():
        pytest.skip("node, or what the provider stands on, is not installed: tools/deps.sh terraform")
    run = Terraform(mere, project, tmp_path)
    yield run
    until(lambda: not run.processes(), 20, "the end of the provider")


def branches(project):
    return {b["name"]: b for b in project.branches()}


def select_one(uri):
    got = subprocess.run(["psql", "-XAtc", "SELECT current_user", uri], capture_output=True, text=True, check=False)
    assert got.returncode == 0, got.stderr
    return got.stdout.strip()


def test_the_life_of_many(project, terraform):
    terraform.write(BRANCHES).run("apply")
    made = branches(project)
    assert set(made) == {"main", "moved", *(f"many-{i}" for i in range(MANY))}
    assert select_one(terraform.run("output", "-raw", "uri")) == "app"
    uri = terraform.run("output", "-raw", "branch_uri")
    terraform.plan(0)
    assert terraform.key not in (terraform.home / "terraform.tfstate").read_text()

    # What can change changes where it is.
    assert "0 to add, 1 to change, 0 to destroy" in terraform.plan(2, owner="other")
    terraform.run("apply", owner="other", labels='{"by":"test","pr":"12"}')
    assert {n: b["id"] for n, b in branches(project).items()} == {n: b["id"] for n, b in made.items()}
    assert select_one(terraform.run("output", "-raw", "uri")) == "other" and terraform.run("output", "-raw", "branch_uri") == uri
    assert project.call("GET", "/branches/many-3")["annotation"]["value"] == {"by": "test", "pr": "12"}
    terraform.run("apply")
    terraform.plan(0)

    # What others change is seen and put right; what others delete is made again.
    project.call("PATCH", "/branches/many-1", {"branch": {"ttl_seconds": None}, "annotation_value": {"by": "hand"}})
    project.call("PATCH", "/branches/many-2", {"branch": {"protected": False, "expires_at": None}})
    project.call("PATCH", "/endpoints/reader?wait=ready", {"endpoint": {"suspend_timeout_seconds": 900, "disabled": True}})
    project.call("DELETE", "/branches/many-4?wait=ready")
    told = terraform.plan(2)
    assert "1 to add, 3 to change, 0 to destroy" in told and '"hand" -> "test"' in told, told
    terraform.run("apply")
    now = branches(project)
    assert now["many-1"]["id"] == made["many-1"]["id"] and now["many-4"]["id"] != made["many-4"]["id"]
    assert project.call("GET", "/branches/many-1?view=spec") == {"name": "many-1", "labels": {"by": "test"}, "ttl_seconds": 86400}
    reader = project.call("GET", "/endpoints/reader")["endpoint"]
    assert reader["suspend_timeout_seconds"] == 600 and reader["disabled"] is False
    terraform.plan(0)

    # Another parent is another branch.
    project.call("PUT", "/branches/stem?wait=ready", {})
    assert "# forces replacement" in terraform.plan(2, parent="stem")
    terraform.run("apply", parent="stem")
    now = branches(project)
    assert now["moved"]["parent_id"] == now["stem"]["id"] and now["moved"]["id"] != made["moved"]["id"]
    terraform.plan(0, parent="stem")

    # What is gone already stops nothing.
    project.call("DELETE", "/branches/many-5?wait=ready")
    terraform.run("destroy", parent="stem")
    assert set(branches(project)) == {"main", "stem"}


def test_imports_and_data_sources(project, terraform):
    project.call("PUT", "/branches/one?wait=ready", {"expires_at": "2090-01-01T00:00:00.000Z"})
    project.call("PUT", "/branches/one/roles/app?wait=ready", {})
    terraform.write(ONE + """
resource "mere_role" "app" {
  project = var.project
  branch  = "one"
  name    = "app"
}
data "mere_project" "p" { id = var.project }
data "mere_branch" "main" {
  project = var.project
  name    = "main"
}
data "mere_endpoint" "main" {
  project = var.project
  name    = data.mere_branch.main.endpoint_id
}
data "mere_role" "owner" {
  project = var.project
  branch  = "main"
  name    = "neondb_owner"
}
data "mere_database" "db" {
  project = var.project
  branch  = data.mere_branch.main.id
  name    = "neondb"
}
output "uri" {
  value     = data.mere_database.db.connection_uri
  sensitive = true
}
""")
    terraform.run("import", "mere_branch.one", f"{project.id}/one")
    terraform.run("import", "mere_role.app", f"{project.id}/one/app")
    assert "0 to add, 1 to change, 0 to destroy" in terraform.plan(2)  # the labels, and a time that is written in another way
    terraform.run("apply")
    terraform.plan(0)
    one = branches(project)["one"]
    assert terraform.state("mere_branch.one")["id"] == one["id"]
    assert terraform.state("data.mere_project.p")["pg_version"] == project.call("GET", "")["project"]["pg_version"]
    assert terraform.state("data.mere_branch.main")["protected"] is False
    endpoint = terraform.state("data.mere_endpoint.main")
    assert endpoint["type"] == "read_write" and endpoint["branch_id"] == branches(project)["main"]["id"]
    assert terraform.state("data.mere_database.db")["owner_name"] == "neondb_owner"
    uri = terraform.run("output", "-raw", "uri")
    assert terraform.state("data.mere_role.owner")["password"] in uri and select_one(uri) == "neondb_owner"
    assert "PROJECT/NAME" in terraform.refused("import", "mere_branch.one", "nothing")
    terraform.run("destroy")
    assert set(branches(project)) == {"main"}


def test_a_project(mere, terraform):
    terraform.write(HEAD + """
variable "name" { default = "declared" }
variable "seconds" { default = 3600 }
resource "mere_project" "p" {
  name                      = var.name
  history_retention_seconds = var.seconds
}
resource "mere_branch" "b" {
  project = mere_project.p.id
  name    = "b"
}
""")
    terraform.run("apply")
    made = terraform.state("mere_project.p")
    terraform.run("apply", name="renamed", seconds="7200")
    now = mere.call("GET", f"/projects/{made['id']}")["project"]
    assert now["name"] == "renamed" and now["history_retention_seconds"] == 7200
    terraform.plan(0, name="renamed", seconds="7200")
    terraform.run("apply", seconds="0")
    terraform.run("destroy")
    assert made["id"] not in [p["id"] for p in mere.projects()]


def test_what_cannot_be_is_told(project, terraform):
    project.call("PUT", "/branches/one", {"labels": {"whose": "another's"}})
    terraform.write(ONE)
    told = terraform.refused("apply")
    assert "There is a branch one already" in told and f"{project.id}/one" in told
    assert project.call("GET", "/branches/one")["annotation"]["value"] == {"whose": "another's"}
    project.call("DELETE", "/branches/one?wait=ready")
    for body, words in (('ttl_seconds = 0', "ttl_seconds = 0"), ('parent = "nowhere"', "branch not found"),
                        ('parent_lsn = "0/1"', "parent_lsn"), ('durability = "some"', "durability")):
        told = terraform.write(one(body)).refused("apply")
        assert words in told and " on main.tf line " in told, told
    assert set(branches(project)) == {"main"}
    terraform.write(HEAD + 'data "mere_branch" "b" {\n  project = var.project\n  name = "nowhere"\n}\n')
    assert "There is no branch" in terraform.refused("plan")
    terraform.env["MERE_API_KEY"] = "wrong"
    assert "HTTP 401" in " ".join(terraform.start("plan", "-no-color").communicate()[0].split())
    del terraform.env["MERE_API_KEY"]
    assert "MERE_API_KEY" in terraform.refused("plan")
    alone = subprocess.run([PROVIDER / "terraform-provider-mere"], env=terraform.env, capture_output=True, text=True, check=False)
    assert alone.returncode == 1 and "Terraform starts it" in alone.stderr


def test_the_same_parent_by_its_id_is_no_other(project, terraform):
    made = project.call("PUT", "/branches/one?wait=ready", {"parent": "main"})["branch"]
    terraform.write(one(f'parent = "{made["parent_id"]}"'))
    terraform.run("import", "mere_branch.one", f"{project.id}/one")
    assert "0 to add, 1 to change, 0 to destroy" in terraform.plan(2)
    terraform.run("apply")
    terraform.plan(0)
    assert branches(project)["one"]["id"] == made["id"]
    terraform.run("destroy")


def test_a_protected_branch_stays(project, terraform):
    terraform.write(one("protected = true")).run("apply")
    assert "protected" in terraform.refused("destroy")
    assert "one" in branches(project) and terraform.state("mere_branch.one")["protected"] is True
    terraform.write(one("protected = false")).run("destroy", "-refresh=false", expect=1)
    terraform.run("apply")
    terraform.run("destroy")
    assert "one" not in branches(project)


def test_a_role_that_only_groups_has_no_password(project, terraform):
    terraform.write(HEAD + 'resource "mere_role" "r" {\n  project = var.project\n  branch = "main"\n  name = "crew"\n  no_login = true\n}\n')
    terraform.run("apply")
    assert terraform.state("mere_role.r")["password"] is None
    terraform.plan(0)
    terraform.run("destroy")


@contextlib.contextmanager
def in_front(mere, fails):
    """The server, but that what `fails` picks by method and path is a 500."""

    class Front(http.server.BaseHTTPRequestHandler):
        def forward(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
            names = ("Authorization", "Content-Type", "If-None-Match")
            ask = urllib.request.Request(mere.api_url + self.path, body, {n: self.headers[n] for n in names if self.headers[n]}, method=self.command)
            try:
                if fails(self.command, self.path):
                    status, got = 500, b'{"message": "as the test wants it"}'
                else:
                    with urllib.request.urlopen(ask) as reply:
                        status, got = reply.status, reply.read()
            except urllib.error.HTTPError as e:
                status, got = e.code, e.read()
            self.send_response(status)
            self.send_header("Content-Length", str(len(got)))
            self.end_headers()
            self.wfile.write(got)

        do_GET = do_PUT = do_DELETE = forward

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Front) as front:
        thread = threading.Thread(target=front.serve_forever)
        thread.start()
        try:
            yield "http://127.0.0.1:%d" % front.server_port
        finally:
            front.shutdown()
            thread.join()


def test_what_was_made_is_not_forgotten(mere, project, terraform):
    """The look behind the PUT fails: the branch is in the state, so that the next apply can put it right and a destroy removes it."""
    terraform.write(one(""))
    with in_front(mere, lambda method, path: path.endswith("/endpoints")) as url:
        terraform.env["MERE_API_URL"] = url
        assert "as the test wants it" in terraform.refused("apply")
    terraform.env["MERE_API_URL"] = mere.api_url
    assert "one" in branches(project) and "mere_branch.one" in terraform.run("state", "list")
    terraform.run("destroy")
    assert "one" not in branches(project)
    with in_front(mere, lambda method, path: method == "PUT") as url:
        terraform.env["MERE_API_URL"] = url
        assert "as the test wants it" in terraform.refused("apply")
    assert terraform.run("state", "list") == "" and "one" not in branches(project)


def test_a_terraform_that_is_killed_takes_the_provider_along(terraform):
    """While the server does not answer."""
    terraform.write(HEAD + 'data "mere_project" "p" { id = var.project }\n')
    with socket.create_server(("127.0.0.1", 0)) as silent, concurrent.futures.ThreadPoolExecutor(1) as pool:
        heard = pool.submit(silent.accept)
        terraform.env["MERE_API_URL"] = "http://127.0.0.1:%d" % silent.getsockname()[1]
        with terraform.start("plan") as process:
            connection, _ = heard.result(timeout=60)
            assert any(b"main.js" in p for p in terraform.processes())
            process.send_signal(signal.SIGKILL)
            process.communicate()
        until(lambda: not terraform.processes(), 20, "the end of the provider")
        connection.close()


def test_every_certificate_is_one():
    """They differ in length, and so does what has to be written around them."""
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    program = """
        const { make } = require(process.argv[1] + '/certificate'), { X509Certificate } = require('crypto'), tls = require('tls');
        for (let n = 0; n < 500; n++) {
          const { der, pem, key } = make(), read = new X509Certificate(der);
          tls.createSecureContext({ key, cert: pem });
          if (!read.verify(read.publicKey) || read.checkHost('localhost') !== 'localhost' || read.checkHost('other')) throw new Error(pem);
        }"""
    subprocess.run(["node", "-e", program, str(PROVIDER)], check=True)
