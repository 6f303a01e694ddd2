//! What tools of Skywire read in the health of a dmsg server.
//!
//! Here: their fields, which stand beside ours in the same document. Not here: ours.
//!
//! Source: docs/dmsg.md "Health"; `HealthCheckResponse` of Skywire's services, state of 2026.

use serde::{Deserialize, Serialize};

use super::super::{COMMIT, Relay, VERSION};
use crate::services::HTTP_PORT;

/// The fields of a relay that speaks the dmsg dialect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DmsgState {
    /// Always `dmsg-server`.
    pub(crate) service_name: String,
    /// Which program it is.
    pub(crate) build_info: BuildInfo,
    /// Start, RFC 3339.
    pub(crate) started_at: String,
    /// The public key.
    pub(crate) public_key: String,
    /// Where this document is served over dmsg: key and port.
    pub(crate) dmsg_address: String,
    /// The first discovery that the relay registers with; absent without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) dmsg_discovery: String,
    /// Keys of the servers that it is configured to keep links with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) peer_servers: Vec<String>,
    /// How it stands with its discoveries, which is ours to say; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) discoveries: Option<DiscoveriesState>,
}

/// How a relay stands with its discoveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiscoveriesState {
    /// Those that it is configured to register with.
    pub(crate) configured: usize,
    /// Of these, those in which its entry stands.
    pub(crate) registered: u64,
    /// Other servers that they name.
    pub(crate) servers: u64,
}

/// Which program a relay is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BuildInfo {
    /// Version of the binary.
    pub(crate) version: String,
    /// Commit of the binary.
    pub(crate) commit: String,
    /// When it was built; nobody notes that.
    pub(crate) date: String,
}

/// Returns the fields of a relay that speaks the dialect.
pub(super) fn state(relay: &Relay) -> Option<DmsgState> {
    let (key, _) = relay.dmsg?;
    let choice = &relay.config.dmsg;
    let discovery = choice.discoveries.first();
    Some(DmsgState {
        service_name: "dmsg-server".to_owned(),
        build_info: BuildInfo {
            version: VERSION.to_owned(),
            commit: COMMIT.to_owned(),
            date: "unknown".to_owned(),
        },
        started_at: humantime::format_rfc3339_seconds(relay.started).to_string(),
        public_key: key.to_string(),
        dmsg_address: format!("{key}:{HTTP_PORT}"),
        dmsg_discovery: discovery.map(ToString::to_string).unwrap_or_default(),
        peer_servers: choice.peers.iter().map(|it| it.key.to_string()).collect(),
        discoveries: relay.discoveries.as_ref().map(|all| DiscoveriesState {
            configured: choice.discoveries.len(),
            registered: all.numbers.registered.read(),
            servers: all.numbers.servers.read(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use ringway_proto::key::PublicKey;
    use serde_json::json;

    use super::*;
    use crate::control::health::{Health, health};

    #[test]
    fn fields_of_skywire_stand_beside_ours_and_only_with_the_dialect() {
        let mut relay = Relay::of_shards(1);
        let text = serde_json::to_value(health(&relay, &[], 1, &[])).unwrap();
        assert_eq!(text.get("service_name"), None);
        assert_eq!(text.get("dmsg"), None);

        let key = "02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9";
        let key = PublicKey::parse_any(key).unwrap();
        relay.dmsg = Some((key, ([127, 0, 0, 1], 8_080).into()));
        relay.config.dmsg.discoveries = vec!["http://127.0.0.1:9090".parse().unwrap()];
        let before = health(&relay, &[], 1, &[]);
        let text = serde_json::to_value(&before).unwrap();
        for (field, expected) in [
            ("service", json!("ringway-relay")),
            ("service_name", json!("dmsg-server")),
            ("started_at", json!("1970-01-01T00:00:00Z")),
            ("dmsg_address", json!(format!("{key}:80"))),
            ("dmsg_discovery", json!("http://127.0.0.1:9090")),
        ] {
            assert_eq!(text.get(field), Some(&expected), "{field}");
        }
        assert_eq!(text["build_info"]["version"], json!(VERSION));
        assert_eq!(text.get("peer_servers"), None, "none is configured");
        assert_eq!(text.get("discoveries"), None, "none was started");
        let back: Health = serde_json::from_value(text).unwrap();
        assert_eq!(back, before);
    }
}
