# A branch of Mere with nothing but Terraform (1.5 or newer) and curl: no provider is downloaded.
#
#   MERE_API_KEY=…  TF_HTTP_PASSWORD=$MERE_API_KEY  terraform apply
#
# The key stays in the environment: neither the state nor a command line has it.

terraform {
  required_version = ">= 1.5"
}

variable "api_url" {
  type        = string
  default     = "http://127.0.0.1:7432"
  description = "Where mered listens."
}

variable "project" {
  type        = string
  description = "The id of the project."
}

variable "name" {
  type        = string
  description = "What the branch is called. Another name is another branch."
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{0,62}$", var.name))
    error_message = "A name that stands in a URL as it is: a-z, 0-9, '.', '_' and '-', a letter or digit first."
  }
}

variable "parent" {
  type        = string
  default     = "main"
  description = "What it is a branch of. Another parent is another branch."
}

variable "ttl_seconds" {
  type        = number
  default     = null
  description = "After so long it goes by itself; null is never."
}

variable "labels" {
  type    = map(string)
  default = {}
}

variable "protected" {
  type    = bool
  default = false
}

locals {
  url  = "${var.api_url}/api/v2/projects/${var.project}/branches/${var.name}"
  spec = jsonencode({ parent = var.parent, ttl_seconds = var.ttl_seconds, labels = var.labels, protected = var.protected })
}

# How long the branch lives. All that the end may use is in here.
resource "terraform_data" "branch" {
  input            = { url = local.url }
  triggers_replace = [local.url, var.parent]

  provisioner "local-exec" {
    when        = destroy
    environment = { URL = self.input.url }
    command     = <<-EOT
      code=$(printf 'header = "Authorization: Bearer %s"\n' "$MERE_API_KEY" |
        curl -K - -sS -o /dev/null -w '%%{http_code}' --retry 8 --retry-connrefused -X DELETE "$URL?wait=ready")
      case $code in
        2??|404|410) ;;
        *) echo "DELETE $URL: HTTP $code" >&2; exit 1 ;;
      esac
    EOT
  }
}

# What it is like. The same PUT makes it and changes it.
resource "terraform_data" "spec" {
  triggers_replace = [terraform_data.branch.id, local.spec]

  provisioner "local-exec" {
    environment = { URL = local.url, SPEC = local.spec }
    command     = <<-EOT
      printf 'header = "Authorization: Bearer %s"\n' "$MERE_API_KEY" |
        curl -K - -sS --fail-with-body -o /dev/stderr --retry 8 --retry-connrefused -X PUT "$URL?wait=ready&view=spec" \
          -H 'Content-Type: application/json' -d "$SPEC"
    EOT
  }
}

# A branch that is not there has no outputs, and stops neither a plan nor a destroy.
data "terraform_remote_state" "branch" {
  depends_on = [terraform_data.spec]
  backend    = "http"
  config     = { address = "${terraform_data.branch.output.url}/tfstate", username = "mere" }
  defaults   = { id = "", endpoint_id = "", connection_uri = "" }
}

check "branch_is_there" {
  assert {
    condition     = data.terraform_remote_state.branch.outputs.id != ""
    error_message = "The branch ${var.name} is gone: terraform apply -replace=terraform_data.spec makes it anew."
  }
}

output "id" {
  value = data.terraform_remote_state.branch.outputs.id
}

output "endpoint_id" {
  value = data.terraform_remote_state.branch.outputs.endpoint_id
}

output "connection_uri" {
  value     = data.terraform_remote_state.branch.outputs.connection_uri
  sensitive = true
}
