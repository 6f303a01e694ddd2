//! Documents of deployments that are right and wrong, and their fence.

use super::*;

const ONE: &str = "1111111111111111111111111111111111111111111111111111111111111111";

fn key(digit: char) -> String {
    std::iter::repeat_n(digit, 64).collect()
}

fn relay(digit: char, host: &str) -> RelayName {
    format!("{}@{host}", key(digit)).parse().unwrap()
}

fn of(text: &str) -> Result<Deployment, String> {
    let document = Document::of_toml(text.as_bytes()).unwrap();
    Deployment::of(&document, "lab.toml").map_err(|problems| problems.to_string())
}

fn lab(further: &str) -> Deployment {
    let (a, b) = (key('a'), key('b'));
    of(&format!(
        "name = \"lab\"\nrelays = [\n  \"{a}@a.example:7100\",\n  \"{b}@[::1]:7100\",\n]\n{further}"
    ))
    .unwrap()
}

#[test]
fn document_says_what_its_keys_are() {
    let deployment = lab("[keys]\nallowed_relays = \"all\"");
    assert_eq!(deployment.name, "lab");
    assert_eq!(
        deployment.relays,
        [relay('a', "a.example:7100"), relay('b', "[::1]:7100")]
    );
    assert_eq!(deployment.allowed_relays, Some(AllowedRelays::All));
    let places: Vec<(&str, String)> = deployment
        .values()
        .into_iter()
        .map(|(path, _, origin)| (path, origin.place()))
        .collect();
    let expected = [
        ("mesh.relays", "lab.toml:2"),
        ("mesh.allowed", "lab.toml:7"),
    ];
    assert_eq!(
        places,
        expected.map(|(path, place)| (path, place.to_owned()))
    );
    // A set that is not there says nothing of its key.
    assert_eq!(lab("").values().len(), 1);
    assert_eq!(lab("[keys]").values().len(), 1);
}

#[test]
fn example_of_the_document_is_valid() {
    let document = include_str!("../../../docs/config.md");
    let (_, section) = document.split_once("## Deployments").unwrap();
    let (_, example) = section.split_once("```toml").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let keys = [("KEY_A", 'a'), ("KEY_B", 'b'), ("KEY_C", 'c')];
    let text = keys.iter().fold(example.to_owned(), |text, (name, digit)| {
        text.replace(name, &key(*digit))
    });
    let deployment = of(&text).unwrap();
    assert_eq!(deployment.name, "lab");
    assert_eq!(deployment.relays.len(), 2);
    let allowed = [key('c').parse().unwrap()].into();
    assert_eq!(
        deployment.allowed_relays,
        Some(AllowedRelays::Listed(allowed))
    );
}

#[test]
fn variable_is_a_path_or_the_document_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lab.toml");
    let a = format!("{}@a.example:7100", key('a'));
    std::fs::write(&path, format!("name = \"file\"\nrelays = [\"{a}\"]")).unwrap();
    let json =
        format!(r#"{{"name": "json", "relays": ["{a}"], "keys": {{"allowed_relays": []}}}}"#);
    let name = |flag: Option<&Path>, variable: Option<&str>| {
        let found = Deployment::find(flag, variable.map(OsString::from)).unwrap();
        found.map(|deployment| deployment.name)
    };
    assert_eq!(name(None, None), None);
    assert_eq!(name(None, path.to_str()).as_deref(), Some("file"));
    assert_eq!(name(None, Some(&json)).as_deref(), Some("json"));
    assert_eq!(name(Some(&path), Some(&json)).as_deref(), Some("file"));
    let found = Deployment::find(None, Some(json.into())).unwrap().unwrap();
    assert_eq!(found.source, VARIABLE);
    let empty = Deployment::find(None, Some(OsString::new())).unwrap_err();
    assert!(
        empty.to_string().contains("RINGWAY_DEPLOY is empty"),
        "{empty}"
    );
}

#[test]
fn everything_wrong_is_named_with_its_line_and_a_fix() {
    let error = of(&format!(
        "name = \"a b\"\nrelays = [\n  \"{ONE}@a.example:7100\",\n  \"{ONE}\",\n  \"xy@b:1\",\n  7,\n  \
         \"{ONE}@host\"]\nregistri = 1\n[keys]\nallowed_relays = [\"some\"]\nother = []"
    ))
    .unwrap_err();
    for part in [
        "the deployment has 8 problems\n",
        "name (lab.toml:1): \"a b\" is no name; write 1 to 64 letters",
        "relays[1] (lab.toml:4): \"1111",
        "there is no '@'; expected KEY@HOST:PORT as `ringway serve` prints it",
        "relays[2] (lab.toml:5): \"xy@b:1\": ",
        "relays[3] (lab.toml:6): 7 is a bare number where text in quotes",
        "relays[4] (lab.toml:7): \"1111",
        "\"host\" does not end in a port",
        "registri (lab.toml:8): is no key of a deployment; the keys are name, relays, registry and keys.",
        "keys.allowed_relays (lab.toml:10): \"some\": ",
        "keys.other (lab.toml:11): is no key",
    ] {
        assert!(error.contains(part), "{part}\nin\n{error}");
    }
}

#[test]
fn missing_and_empty_parts_are_named_with_a_fix() {
    let twice = format!("name = \"x\"\nrelays = [\"{ONE}@a:1\", \"{ONE}@b:1\"]");
    let many: Vec<String> = (0..1_025)
        .map(|number| format!("\"{number:064x}@a:1\""))
        .collect();
    let many = format!("name = \"x\"\nrelays = [{}]", many.join(","));
    for (text, part) in [
        ("", "name (lab.toml): is missing; write 1 to 64"),
        ("", "relays (lab.toml): is missing; name at least one relay"),
        (
            "name = \"x\"\nrelays = []",
            "relays (lab.toml:2): is empty; name at least one",
        ),
        (
            "name = \"x\"\nrelays = \"all\"",
            "relays (lab.toml:2): is no list; name at",
        ),
        ("name = \"\"", "name (lab.toml:1): \"\" is no name"),
        ("name = 7", "name (lab.toml:1): 7 is no name"),
        (&twice, "stands there twice"),
        (
            &many,
            "relays (lab.toml:2): 1025 relays are too many; at most 1024",
        ),
    ] {
        let error = of(text).unwrap_err();
        assert!(error.contains(part), "{part}\nin\n{error}");
    }
}

#[test]
fn only_relays_of_the_deployment_are_admitted_and_only_where_they_are() {
    let deployment = lab("");
    assert_eq!(deployment.admits(&relay('a', "A.example:7100")), Ok(()));
    assert_eq!(deployment.admits(&relay('b', "[0::1]:7100")), Ok(()));
    let error = deployment
        .admits(&relay('c', "a.example:7100"))
        .unwrap_err();
    let expected = format!(
        "{}@a.example:7100 is not in the deployment lab (lab.toml), and nothing outside it is contacted; \
         leave it out, or add it to the deployment's relays",
        key('c')
    );
    assert_eq!(error, expected);
    let error = deployment
        .admits(&relay('a', "b.example:7100"))
        .unwrap_err();
    assert!(
        error.contains("is not where it is in the deployment lab")
            && error.contains(&format!("write {}@a.example:7100", key('a'))),
        "{error}"
    );
}

#[test]
fn key_sets_can_be_narrowed_and_not_widened() {
    let listed = |digits: &[char]| {
        let keys = digits.iter().map(|digit| key(*digit).parse().unwrap());
        AllowedRelays::Listed(keys.collect())
    };
    let named = format!("[keys]\nallowed_relays = [\"{ONE}\"]");
    for (further, allowed, is_admitted) in [
        ("", listed(&[]), true),
        ("", listed(&['a', 'b']), true),
        ("", listed(&['a', '1']), false),
        ("", AllowedRelays::All, false),
        (named.as_str(), listed(&['a', '1']), true),
        (named.as_str(), listed(&['2']), false),
        (named.as_str(), AllowedRelays::All, false),
        ("[keys]\nallowed_relays = \"all\"", AllowedRelays::All, true),
        ("[keys]\nallowed_relays = \"all\"", listed(&['2']), true),
    ] {
        let outcome = lab(further).admits_keys(&allowed);
        assert_eq!(outcome.is_ok(), is_admitted, "{further} {allowed:?}");
    }
    let error = lab("").admits_keys(&AllowedRelays::All).unwrap_err();
    assert!(
        error.contains("\"all\" is more than the deployment lab (lab.toml) allows"),
        "{error}"
    );
}

#[test]
fn registry_is_the_deployments_whoever_logs_in() {
    let redis = |url: &str| RegistryChoice::Redis(url.to_owned());
    let of_lab = |url: &str| {
        let text = format!("name = \"lab\"\nrelays = [\"{ONE}@a:1\"]\nregistry = \"{url}\"");
        of(&text).unwrap()
    };
    let deployment = of_lab("redis://registry.example:6379/0");
    let values = deployment.values();
    let (path, _, origin) = values.last().unwrap();
    assert_eq!(
        (*path, origin.place().as_str()),
        ("mesh.registry", "lab.toml:3")
    );
    for (url, is_admitted) in [
        ("redis://registry.example:6379/0", true),
        ("redis://:pass@word@registry.example:6379/0", true),
        ("rediss://registry.example:6379/0", false),
        ("redis://registry.example:6379/1", false),
        ("redis://other.example:6379/0", false),
    ] {
        let outcome = deployment.admits_registry(&redis(url));
        assert_eq!(outcome.is_ok(), is_admitted, "{url}");
    }
    // Those that contact nobody need no permission; a deployment without one permits no other.
    for deployment in [deployment, of_lab("off"), lab("")] {
        for choice in [RegistryChoice::Embedded, RegistryChoice::Off] {
            assert_eq!(deployment.admits_registry(&choice), Ok(()));
        }
        let error = deployment.admits_registry(&redis("redis://me:secret@c:1"));
        let error = error.unwrap_err();
        assert!(
            error.starts_with("redis://***@c:1 is not the registry of"),
            "{error}"
        );
    }
    let wrong = format!("name = \"lab\"\nrelays = [\"{ONE}@a:1\"]\nregistry = \"http://x\"");
    let error = of(&wrong).unwrap_err();
    assert!(
        error.contains("registry (lab.toml:3): no address of a Redis"),
        "{error}"
    );
}

#[test]
fn only_relays_of_the_deployment_are_dialed_because_a_registry_has_them() {
    let listed = |digits: &[char]| {
        let keys = digits.iter().map(|digit| key(*digit).parse().unwrap());
        AllowedRelays::Listed(keys.collect())
    };
    let deployment = lab("[keys]\nallowed_relays = \"all\"");
    assert_eq!(deployment.within(&AllowedRelays::All), listed(&['a', 'b']));
    assert_eq!(deployment.within(&listed(&['b', 'c'])), listed(&['b']));
    assert_eq!(deployment.within(&listed(&[])), listed(&[]));
}
