//! What the pages beside the code promise, as far as a program can check it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use spotwarden::config::settings::SETTINGS;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every file of the repository whose name ends in one of `extensions` (or is one of them), build output left out.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let ending = path.extension().map_or(name.clone(), |extension| extension.to_string_lossy().into_owned());
            if path.is_dir() {
                if !matches!(name.as_str(), ".git" | "target" | "dist") {
                    folders.push(path);
                }
            } else if extensions.contains(&ending.as_str()) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no files with {extensions:?}");
    found
}

/// Lines outside fenced blocks with their numbers from 1, inline code blanked.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let plain = line.split('`').enumerate().map(|(part, text)| if part % 2 == 0 { text } else { "" });
            lines.push((number + 1, plain.collect()));
        }
    }
    lines
}

/// Targets of `[text](target)` in a line.
fn links(line: &str) -> Vec<String> {
    let targets = line.split("](").skip(1);
    targets.filter_map(|rest| rest.split([')', ' ']).next()).map(str::to_owned).collect()
}

/// The anchors that a page offers, as code hosts make them from headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        if !fenced && line.starts_with('#') {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    found
}

/// Why `target`, written in `page`, leads nowhere.
fn broken(page: &Path, text: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let text = if file.is_empty() {
        text.to_owned()
    } else {
        let path = page.parent().unwrap_or(root()).join(file);
        if !path.exists() {
            return Some(format!("{} does not exist", path.display()));
        }
        std::fs::read_to_string(path).unwrap_or_default()
    };
    (!anchor.is_empty() && !anchors(&text).contains(anchor)).then(|| format!("no heading for #{anchor}"))
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut complaints = Vec::new();
    for page in files(&["md"]) {
        let text = std::fs::read_to_string(&page).expect("a readable page");
        for (number, line) in prose(&text) {
            for target in links(&line) {
                if let Some(why) = broken(&page, &text, &target) {
                    complaints.push(format!("{}:{number}: ({target}): {why}", page.display()));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_link_that_leads_nowhere_is_noticed() {
    let page = root().join("README.md");
    let text = "# Big `words`, twice\n";
    assert_eq!(links("a [b](c.md) and [d](e#f \"title\")."), ["c.md", "e#f"]);
    assert_eq!(broken(&page, text, "LICENSE"), None);
    assert_eq!(broken(&page, text, "#big-words-twice"), None);
    assert_eq!(broken(&page, text, "https://kubernetes.io/"), None);
    assert!(broken(&page, text, "docs/no-such-page.md").is_some());
    assert!(broken(&page, text, "#no-such-heading").is_some());
}

/// First cells of the page's table rows, code marks stripped.
fn dependencies_with_a_reason() -> BTreeSet<String> {
    let page = read("docs/dependencies.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect()
}

#[test]
fn every_direct_dependency_has_a_reason_and_nothing_else_has() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("Cargo.toml is TOML");
    let mut direct = BTreeSet::new();
    for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
        direct.extend(
            manifest.get(table).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys).cloned(),
        );
    }
    let named = dependencies_with_a_reason();
    assert_eq!(direct.difference(&named).collect::<Vec<_>>(), Vec::<&String>::new(), "missing in docs/dependencies.md");
    assert_eq!(named.difference(&direct).collect::<Vec<_>>(), Vec::<&String>::new(), "there, not in Cargo.toml");
}

/// Flag, environment variable and default of each row in the page's tables.
#[test]
fn the_page_about_settings_lists_every_one_with_its_variable_and_default() {
    let page = read("docs/settings.md");
    let rows = page.lines().filter(|line| line.starts_with("| `--"));
    let listed: BTreeSet<[String; 3]> = rows
        .map(|row| {
            let mut cells = row.split('|').skip(1).map(|cell| cell.trim().trim_matches('`').to_owned());
            std::array::from_fn(|_| cells.next().unwrap_or_default())
        })
        .collect();
    let settings: BTreeSet<[String; 3]> = SETTINGS
        .iter()
        .map(|setting| {
            let default = if setting.flag == "node-name" { "required" } else { setting.default.unwrap_or_default() };
            [format!("--{}", setting.flag), setting.env.to_owned(), default.to_owned()]
        })
        .collect();
    assert_eq!(listed, settings);
}

/// A value that the chart does not have would be refused by its schema.
#[test]
fn the_page_about_settings_names_values_that_the_chart_has() {
    let values: serde_json::Value = serde_saphyr::from_str(&read("chart/values.yaml")).expect("YAML");
    let page = read("docs/settings.md");
    let rows = page.lines().filter(|line| line.starts_with("| `--"));
    let named: Vec<&str> = rows.filter_map(|row| row.split('|').nth(4)).flat_map(quoted).collect();
    assert!(named.len() + 2 >= SETTINGS.len(), "{named:?}");
    for name in named {
        let pointer = format!("/{}", name.replace('.', "/"));
        assert!(values.pointer(&pointer).is_some(), "chart/values.yaml has no {name}");
    }
}

/// A reason that the page does not know is one that nobody sets an alert on.
#[test]
fn the_page_about_events_has_one_row_for_each_reason() {
    let page = read("docs/events.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).map(|(reason, _)| reason);
    assert_eq!(rows.collect::<Vec<_>>(), spotwarden::sim::scenario::EVENT_REASONS);
}

#[test]
fn no_page_or_source_knows_the_machine_it_was_written_on() {
    let complaints = lines_with(|line| {
        let mut names = ["builds", "home", "root", "Users", "work", "workspace"].into_iter();
        names.any(|name| {
            let path = format!("/{name}/");
            // `https://host/work/…` and `a/work/b` are no paths of a machine.
            line.match_indices(&path).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '}' | '~'))
            })
        })
    });
    assert!(complaints.is_empty(), "absolute paths of some machine:\n{}", complaints.join("\n"));
}

#[test]
fn nothing_is_left_for_later_in_a_comment() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let complaints = lines_with(|line| {
        line.split(|c: char| !c.is_alphanumeric()).any(|word| words.contains(&word))
            || line.starts_with(concat!("<<<<", "<<< "))
            || line.starts_with(concat!(">>>>", ">>> "))
    });
    assert!(complaints.is_empty(), "do it, or write it down as a limit in README.md:\n{}", complaints.join("\n"));
}

/// `file:line: text` of every line in pages and sources for which `guilty` holds.
fn lines_with(guilty: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for file in files(&["md", "rs", "toml", "yaml", "yml", "sh", "run", "Makefile", "Dockerfile"]) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let lines = text.lines().enumerate().filter(|(_, line)| guilty(line));
        found.extend(lines.map(|(number, line)| format!("{}:{}: {}", file.display(), number + 1, line.trim())));
    }
    found
}

/// The value behind `key` at the beginning of a line of `file`.
fn value_of(file: &str, key: &str) -> String {
    let text = read(file);
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap_or_else(|| panic!("{file} has no line {key}…")).trim().trim_matches('"').to_owned()
}

#[test]
fn the_image_is_built_with_the_pinned_toolchain() {
    let pinned = value_of("rust-toolchain.toml", "channel =");
    assert_eq!(value_of("Dockerfile", "ARG RUST_VERSION="), pinned);
    let oldest = value_of("Cargo.toml", "rust-version =");
    assert!(pinned.starts_with(&oldest), "rust-version is {oldest}, but only {pinned} is ever tried");
}

#[test]
fn the_index_of_decisions_lists_every_one_in_order() {
    let index = read("docs/decisions/README.md");
    let listed: Vec<String> = index.lines().flat_map(links).filter(|target| target.starts_with("00")).collect();
    let mut there: Vec<String> = files(&["md"])
        .iter()
        .filter(|file| file.parent().is_some_and(|folder| folder.ends_with("docs/decisions")))
        .filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
        .filter(|name| name != "README.md")
        .collect();
    there.sort();
    assert_eq!(listed, there);
    for (place, name) in there.iter().enumerate() {
        assert!(name.starts_with(&format!("{:04}-", place + 1)), "{name} is out of sequence");
    }
}

/// A check that the page does not know leaves people alone with its word; one that is gone misleads them.
#[test]
fn the_page_about_check_has_one_row_for_each_check_in_their_order() {
    let page = read("docs/check.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).map(|(id, _)| id);
    assert_eq!(rows.collect::<Vec<_>>(), spotwarden::check::report::ids());
    for word in ["`ok`", "`warning`", "`missing`", "`skipped`"] {
        assert!(page.contains(word), "{word}");
    }
}

/// The words in backticks of a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// A name in the table that no test has would promise a proof that is not there.
#[test]
fn every_test_that_the_page_about_addresses_names_exists() {
    let sources: String = files(&["rs"]).into_iter().map(read).collect();
    let page = read("docs/cni.md");
    let (_, table) = page.split_once("## How it is tested").expect("the section");
    let rows = table.lines().filter(|line| line.starts_with("| ") && line.contains("` |"));
    let tests: Vec<&str> = rows.filter_map(|row| row.rsplit_once(" | ")).flat_map(|(_, tests)| quoted(tests)).collect();
    assert!(tests.len() > 60, "{tests:?}");
    for test in tests {
        assert!(sources.contains(&format!("fn {test}(")), "no test {test}");
    }
}

#[test]
fn the_page_about_addresses_names_every_metric_and_every_word_of_its_labels() {
    use spotwarden::cni::advice::{Doubt, Trap};
    use spotwarden::cni::growth::State;
    use spotwarden::cni::limits::Limit;
    let page = read("docs/cni.md");
    let golden = read("tests/golden/metrics.txt");
    let series = golden.lines().filter(|line| line.starts_with("spotwarden_cni_"));
    let metrics: BTreeSet<&str> = series.filter_map(|line| line.split('{').next()).collect();
    assert!(metrics.len() > 15, "{metrics:?}");
    let words = Trap::ALL.map(Trap::as_str).into_iter().chain(Doubt::ALL.map(Doubt::as_str));
    let words = words.chain(State::ALL.map(State::as_str)).chain(Limit::ALL.map(Limit::as_str));
    for word in words {
        assert!(page.contains(&format!("`{word}`")), "{word}");
    }
    for metric in metrics {
        assert!(page.contains(metric), "{metric}");
    }
}
