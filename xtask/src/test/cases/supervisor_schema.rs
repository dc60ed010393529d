//! What commands say with `--json`, and the answers over HTTP, against `docs/supervisor.schema.json`.

use super::ensure;
use super::supervisor::{Login, start_with};
use super::supervisor_http::Client;
use crate::disk::mkdisk;
use crate::error::{Context, Result};
use crate::machine::run_dir;
use crate::test::Case;
use crate::test::lab::Lab;
use crate::workspace::root;
use serde_json::Value;
use std::path::PathBuf;

pub const CASES: &[Case] = &[Case {
    name: "supervisor: JSON as its schema says",
    asserts: "what each command says with --json, and each answer over HTTP, has the keys of docs/supervisor.schema.json, all of them and no others, and values of those kinds",
    run: as_the_schema_says,
}];

const FLEET: &str = "[[vm]]\nname = \"late\"\nimage = \"calc\"\n\n[tenant.red]\nvms = 3\n";

/// Commands, and what the schema calls what they say.
const COMMANDS: &[(&str, &str)] = &[
    ("tenant set blue --vms 4 --memory 64M --disk 4M --pool 1M --wakes 5 --rate 1M --json", "done"),
    ("vm create a --image calc --tenant blue --memory 8M --json", "done"),
    ("vm create b --image calc --json", "done"),
    ("disk create data 64K --tenant blue --json", "done"),
    ("disk attach a data --json", "done"),
    ("vm start a --json", "done"),
    ("disk snapshot data kept --json", "done"),
    ("vm list --json", "vms"),
    ("vm list --tenant blue --json", "vms"),
    ("vm list --count --json", "vm-count"),
    ("vm show a --json", "vm"),
    ("vm show b --json", "vm"),
    ("vm pause a --json", "done"),
    ("vm show a --json", "vm"),
    ("vm resume a --json", "done"),
    ("vm top --json", "top"),
    ("component list --json", "components"),
    ("component restart sched --json", "done"),
    ("policy list --json", "policies"),
    ("policy show sched --json", "policies"),
    ("policy set sched fair --json", "done"),
    ("image list --json", "images"),
    ("image list --count --json", "image-count"),
    ("image show calc --json", "image-details"),
    ("disk list --json", "disks"),
    ("tenant list --json", "tenants"),
    ("tenant show blue --json", "tenant"),
    ("token new ci --json", "new-token"),
    ("token list --json", "tokens"),
    ("node show --json", "node"),
    ("log --lines 30 --json", "log"),
    ("vm stop a --json", "done"),
    ("vm destroy b --json", "done"),
    ("token rm ci --json", "done"),
];

/// Addresses that whoever asks is answered at, and those that take a token.
const ADDRESSES: &[(u16, &str, &str, &str)] = &[
    (200, "GET /vms.json", "", "vms"),
    (200, "GET /vms.json?count", "", "vm-count"),
    (200, "GET /components.json", "", "components"),
    (200, "GET /images.json", "", "images"),
    (200, "GET /images.json?count", "", "image-count"),
    (200, "GET /images/calc", "", "image-details"),
    (200, "GET /tenants.json", "", "tenants"),
    (200, "GET /tenants/blue", "", "tenant"),
    (200, "GET /disks.json", "", "disks"),
    (200, "GET /policies.json", "", "policies"),
    (200, "GET /policies/sched", "", "policies"),
    (200, "GET /top.json", "", "top"),
    (200, "GET /node.json", "", "node"),
    (201, "POST /vms", "{\"name\":\"c\",\"image\":\"calc\"}", "vm"),
    (200, "POST /vms/c/start", "", "vm"),
    (200, "GET /vms/c/console?wait=1", "", "console"),
    (201, "POST /disks", "{\"name\":\"more\",\"size\":\"64K\"}", "disk"),
    (201, "POST /disks/more/snapshot", "{\"name\":\"kept-2\"}", "disk"),
    (200, "PUT /tenants/red", "{\"vms\":2}", "tenant"),
    (200, "PUT /policies/sched", "{\"policy\":\"fair\"}", "policies"),
    (200, "GET /log.json?lines=20", "", "log"),
    (404, "GET /vms/nobody", "", "error"),
    (400, "POST /vms", "{}", "error"),
    (401, "POST /node/shutdown", "", "error"),
];

fn as_the_schema_says(lab: &Lab) -> Result<()> {
    let schema = schema()?;
    let disk = run_dir()?.join("disk");
    let words = ["--disk=docs=64KiB", "--size=8064KiB"].map(PathBuf::from);
    mkdisk::make(&mkdisk::Args::parse([disk.clone()].into_iter().chain(words))?)?;
    let (running, login) = start_with(lab, &[disk])?;
    running.wait_for("diskmux: set foraker: 1 members", std::time::Duration::from_secs(60))?;
    let is = |what: &str, name: &str, value: &Value| {
        fits(&schema, &schema["$defs"][name], value).map_err(|why| format!("{what}: {why}: {value}").into())
    };
    for (line, name) in COMMANDS {
        is(line, name, &json(&login.good(line)?)?)?;
    }
    for how in ["--dry-run", "", ""] {
        let (out, error, status) = login.ask_with(&format!("fleet apply --json {how}"), FLEET)?;
        ensure(status == Some(0), || error)?;
        is("fleet apply", "fleet", &json(&out)?)?;
    }
    over_http(&login, &is)?;
    running.power_off()
}

fn over_http(login: &Login, is: &dyn Fn(&str, &str, &Value) -> Result<()>) -> Result<()> {
    let token = login.good("token new http")?;
    for (status, line, body, name) in ADDRESSES {
        let token = if *status == 401 { "" } else { token.trim() };
        is(line, name, &Client { login, token }.is(*status, line, body)?)?;
    }
    Ok(())
}

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).context(|| text.to_owned())
}

fn schema() -> Result<Value> {
    let page = root().join("docs/supervisor.schema.json");
    json(&std::fs::read_to_string(&page).context(|| format!("cannot read {}", page.display()))?)
}

/// Whether a value is as this part of a schema says, as far as ours go: kinds, keys, items, words, references. Why not.
fn fits(schema: &Value, part: &Value, value: &Value) -> std::result::Result<(), String> {
    if let Some(name) = part["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
        return fits(schema, &schema["$defs"][name], value);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = part["type"].as_array().cloned().unwrap_or_else(|| vec![part["type"].clone()]);
    if !kinds.iter().any(|one| one == kind) {
        return Err(format!("{kind} instead of {}", part["type"]));
    }
    if value.as_i64().zip(part["minimum"].as_i64()).is_some_and(|(value, least)| value < least) {
        return Err(format!("{value} is less than {}", part["minimum"]));
    }
    if part["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return Err(format!("{value} is none of {}", part["enum"]));
    }
    for item in value.as_array().into_iter().flatten() {
        fits(schema, &part["items"], item)?;
    }
    let Some(object) = value.as_object() else { return Ok(()) };
    for (key, value) in object {
        let Some(part) = part["properties"].get(key) else { return Err(format!("`{key}` is not in the schema")) };
        fits(schema, part, value).map_err(|why| format!("{key}: {why}"))?;
    }
    let missing = part["required"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|key| !object.contains_key(key.as_str().unwrap_or_default()));
    missing.map_or(Ok(()), |key| Err(format!("{key} is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The keys that programs know: more may come, none goes. Those in brackets are not always there.
    const KNOWN: &str = "\
        component name starts ran_ms\n\
        console vm id next missed text\n\
        disk name bytes read_only beneath tenant vms\n\
        done done\n\
        error error\n\
        fleet dry_run vms changes\n\
        image name memory_bytes kept\n\
        image-count images\n\
        image-details name memory_bytes put file_bytes sha256 args vms kept held\n\
        new-token name token\n\
        node vms vms_admitted vms_out vms_waiting wakes up_ms idle_ms guests_ms components_ms memory_bytes free_bytes unix_ms ntp_server ntp_offset_us state_disk state_kept state_why\n\
        policy component name state\n\
        tenant name vms quota_vms limit_bytes quota_bytes refused disk_bytes quota_disk_bytes pool_bytes quota_pool_bytes quota_wakes waiting_wakes delayed_wakes quota_rate\n\
        token name unix_ms used\n\
        vm name id image state address memory_bytes limit_bytes ran_ms\n\
        vm-count vms";

    #[test]
    fn keys_come_and_none_goes() {
        let schema = schema().expect("a schema");
        for line in KNOWN.lines() {
            let (name, keys) = line.trim().split_once(' ').expect("keys");
            let required: Vec<&str> =
                schema["$defs"][name]["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            for key in keys.split(' ') {
                assert!(
                    required.contains(&key),
                    "programs know `{key}` of {name}, and it is not in docs/supervisor.schema.json"
                );
            }
        }
    }

    /// The keys of a part, and of what lies in it.
    fn keys(part: &Value, found: &mut BTreeSet<String>) {
        for (key, value) in part["properties"].as_object().into_iter().flatten() {
            found.insert(key.clone());
            keys(value, found);
        }
        if !part["items"].is_null() {
            keys(&part["items"], found);
        }
    }

    /// The table of docs/supervisor.md has each key of the schema, in the row about it.
    #[test]
    fn the_page_explains_each_key() {
        let page = std::fs::read_to_string(root().join("docs/supervisor.md")).expect("the page");
        let schema = schema().expect("a schema");
        let (_, table) = page.split_once("| of | keys |").expect("the table");
        let of = |beginning: &str| table.lines().find(|line| line.starts_with(beginning)).expect("a row").to_owned();
        for (name, row) in [
            ("vm", "| a VM |"),
            ("vm-count", "| `vm list --count` |"),
            ("component", "| a component |"),
            ("image", "| an image |"),
            ("image-count", "| an image |"),
            ("image-details", "| an image |"),
            ("top", "| `vm top` |"),
            ("policy", "| a policy |"),
            ("disk", "| a virtual disk |"),
            ("log", "| a line of the log |"),
            ("fleet", "| `fleet apply` | `dry_run`"),
            ("tenant", "| a tenant |"),
            ("done", "| what changes something"),
            ("token", "| a token |"),
            ("new-token", "| a token |"),
            ("node", "| the node |"),
            ("console", "| `GET /vms/VM/console` |"),
        ] {
            let (row, mut found) = (of(row), BTreeSet::new());
            keys(&schema["$defs"][name], &mut found);
            assert!(!found.is_empty(), "{name}");
            for key in found {
                assert!(row.contains(&format!("`{key}`")), "docs/supervisor.md does not explain `{key}` of {name}");
            }
        }
    }

    #[test]
    fn what_is_not_as_a_schema_says_is_found() {
        let schema: Value = serde_json::from_str(
            r##"{"$defs":{"a":{"type":"object","properties":{"n":{"type":["integer","null"],"minimum":0},"w":{"type":"string","enum":["x"]}},
                "required":["n"],"additionalProperties":false},"all":{"type":"array","items":{"$ref":"#/$defs/a"}}}}"##,
        )
        .expect("JSON");
        let judge = |text: &str| fits(&schema, &schema["$defs"]["all"], &serde_json::from_str(text).expect("JSON"));
        assert_eq!(judge(r#"[{"n":1,"w":"x"},{"n":null}]"#), Ok(()));
        for (wrong, why) in [
            ("{}", "object instead of \"array\""),
            (r#"[{"w":"x"}]"#, "\"n\" is missing"),
            (r#"[{"n":-1}]"#, "-1 is less than 0"),
            (r#"[{"n":"1"}]"#, "string instead of"),
            (r#"[{"n":1.5}]"#, "number instead of"),
            (r#"[{"n":1,"w":"y"}]"#, "none of"),
            (r#"[{"n":1,"m":1}]"#, "`m` is not in the schema"),
        ] {
            assert!(judge(wrong).is_err_and(|said| said.contains(why)), "{wrong}: {:?}", judge(wrong));
        }
    }
}
