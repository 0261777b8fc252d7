//! `Cargo.toml`: every dependency earns a line.

/// The dependencies that no comment stands above. One that is taken over from the workspace is
/// explained there, and a crate of our own explains itself.
pub(crate) fn unexplained_dependencies(manifest: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let mut in_dependencies = false;
    let mut explained = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
        } else if in_dependencies && line.contains('=') {
            let elsewhere = line.contains("workspace = true") || line.contains("path = ");
            if !explained && !elsewhere {
                findings.push(line.to_owned());
            }
        }
        explained = line.starts_with('#');
    }
    findings
}

#[test]
fn an_unexplained_dependency_is_found() {
    let manifest = "\
[package]
name = \"x\"

[dependencies]
# The command line.
clap = \"4\"
serde = \"1\"
bytes.workspace = true
own = { path = \"own\" }

[dev-dependencies]
rand = \"0\"
[features]
y = []
";
    assert_eq!(
        unexplained_dependencies(manifest),
        ["serde = \"1\"", "rand = \"0\""]
    );
}
