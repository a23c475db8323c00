# Cloudflare's cache in front of bucket and tunnel; README.md beside this file says the same in words.
#   terraform init && terraform apply -var zone_id=... -var video_host=... -var page_host=...
# with a token in CLOUDFLARE_API_TOKEN that may edit the zone's cache rules. A zone has one ruleset for this phase:
# where there is one already, add these rules to it.
terraform {
  required_providers {
    cloudflare = {
      source  = "cloudflare/cloudflare"
      version = "~> 5.0"
    }
  }
}

variable "zone_id" {
  type = string
}

variable "video_host" {
  type        = string
  description = "The bucket's custom domain, as in R2_PUBLIC_URL"
}

variable "page_host" {
  type        = string
  description = "The tunnel's hostname"
}

resource "cloudflare_ruleset" "broadcaster" {
  zone_id     = var.zone_id
  name        = "broadcaster"
  description = "Segments for a year, playlists for as long as the service says, failures never"
  kind        = "zone"
  phase       = "http_request_cache_settings"

  rules = [
    {
      ref         = "broadcaster_segments"
      description = "Objects of the bucket: Cloudflare does not cache .ts, .m4s, .m3u8 and .json by itself"
      expression  = "(http.host eq \"${var.video_host}\" and http.request.uri.path.extension in {\"ts\" \"m4s\" \"mp4\" \"aac\" \"vtt\" \"m3u8\" \"json\" \"jpg\"})"
      action      = "set_cache_settings"
      action_parameters = {
        cache = true
        # Segments carry a year and "immutable", as their keys are never used twice.
        edge_ttl = {
          mode = "respect_origin"
          # Without this, a 404 is kept for three minutes: longer than the segment would be listed.
          status_code_ttl = [
            {
              status_code_range = { from = 400 }
              value             = -1 # no-store
            },
          ]
        }
        browser_ttl = {
          mode = "respect_origin"
        }
        # Objects have no query, but a stranger who adds one would make Cloudflare read the bucket again.
        cache_key = {
          custom_key = {
            query_string = {
              exclude = {
                all = true
              }
            }
          }
        }
      }
    },
    {
      ref         = "broadcaster_playlists"
      description = "Playlists: one request of each data centre instead of one of each viewer"
      # The key has the query in it, so each media sequence number that players wait for (_HLS_msn) is an entry.
      expression = "(http.host eq \"${var.page_host}\" and starts_with(http.request.uri.path, \"/live/\") and http.request.uri.path.extension eq \"m3u8\")"
      action     = "set_cache_settings"
      action_parameters = {
        cache = true
        # Every answer, 404 and 503 included, says itself how long it may be kept; one that does not is not.
        edge_ttl = {
          mode = "bypass_by_default"
        }
        browser_ttl = {
          mode = "respect_origin"
        }
        respect_strong_etags = true
      }
    },
    {
      ref         = "broadcaster_plain_playlists"
      description = "Playlists without delivery directives, also: whatever the query says means nothing"
      # The service reads %5FHLS_msn as _HLS_msn. Ignored here, its answer would be kept in the plain playlist's
      # place, and longer than that: so a query in which anything is escaped stays in the key.
      expression = "(http.host eq \"${var.page_host}\" and starts_with(http.request.uri.path, \"/live/\") and http.request.uri.path.extension eq \"m3u8\" and not http.request.uri.query contains \"_HLS_\" and not http.request.uri.query contains \"%\")"
      action     = "set_cache_settings"
      action_parameters = {
        cache = true
        cache_key = {
          custom_key = {
            query_string = {
              exclude = {
                all = true
              }
            }
          }
        }
      }
    },
    {
      ref         = "broadcaster_held_events"
      description = "Held events: all pages wait for the same serial, whatever the query says"
      expression  = "(http.host eq \"${var.page_host}\" and (starts_with(http.request.uri.path, \"/live/events/\") or starts_with(http.request.uri.path, \"/live/segments/\")))"
      action      = "set_cache_settings"
      action_parameters = {
        cache = true
        # 404 and 503 say that they may be kept for a second.
        edge_ttl = {
          mode = "bypass_by_default"
        }
        browser_ttl = {
          mode = "respect_origin"
        }
        cache_key = {
          custom_key = {
            query_string = {
              exclude = {
                all = true
              }
            }
          }
        }
      }
    },
    {
      ref         = "broadcaster_live"
      description = "Server-sent events, tracker, reports, clips and health are for one reader each"
      expression  = "(http.host eq \"${var.page_host}\" and http.request.uri.path in {\"/live/events\" \"/live/tracker\" \"/live/beacon\" \"/live/clips\" \"/health\"})"
      action      = "set_cache_settings"
      action_parameters = {
        cache = false
      }
    },
  ]
}

# One data centre asks for all others: without it each of them makes its own request of the service.
resource "cloudflare_tiered_cache" "broadcaster" {
  zone_id = var.zone_id
  value   = "on"
}
