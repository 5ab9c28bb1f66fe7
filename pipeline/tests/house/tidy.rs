//! Files: how each begins, how long it may be, what may not stand in it.

use crate::{files, none, sources};

/// Lines that a file may have, its tests not counted.
const LINES_MAX: usize = 600;
/// Lines that a file of tests may have.
const TEST_LINES_MAX: usize = 900;
/// Bytes that any file may have: matter that is not source lives elsewhere.
const BYTES_MAX: u64 = 500_000;

/// Is the whole file made of tests?
fn is_tests(path: &str) -> bool {
    path.split('/').any(|part| part == "tests") || path.ends_with("/tests.rs")
}

/// Lines before the file's own tests: a module `tests` at its end.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1] == "mod tests {")
        .unwrap_or(lines.len())
}

/// Does `word` stand in `text` as a word of its own?
fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

/// The attributes `name(…)` of a file that give no reason.
fn without_reason(text: &str, name: &str) -> usize {
    text.split(&format!("[{name}("))
        .skip(1)
        .filter(|rest| !rest.split(")]").next().is_some_and(|inside| inside.contains("reason =")))
        .count()
}

#[test]
fn every_file_opens_with_what_lives_in_it() {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path)
        .collect();
    none("these files do not open with `//!` and what lives in them", &found);
}

#[test]
fn no_file_is_too_long() {
    let found: Vec<_> = sources()
        .into_iter()
        .filter_map(|(path, text)| {
            let (lines, most) = if is_tests(&path) {
                (text.lines().count(), TEST_LINES_MAX)
            } else {
                (lines_without_tests(&text), LINES_MAX)
            };
            (lines > most).then(|| format!("{path}: {lines} lines, at most {most}"))
        })
        .collect();
    none("these files hold more than one idea: divide them", &found);
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut found = Vec::new();
    for file in files() {
        for (number, line) in file.text.iter().flat_map(|text| text.lines()).enumerate() {
            if marks.iter().any(|mark| has_word(line, mark)) {
                found.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    none("do it, or write an issue", &found);
}

#[test]
fn every_allowance_has_its_reason() {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| {
            without_reason(text, concat!("all", "ow")) + without_reason(text, concat!("exp", "ect"))
                > 0
        })
        .map(|(path, _)| path)
        .collect();
    none("a lint is switched off without `reason = \"…\"`", &found);
}

#[test]
fn every_document_has_a_title() {
    let found: Vec<_> = files()
        .into_iter()
        .filter(|file| file.path.ends_with(".md"))
        .filter(|file| !file.text.as_ref().is_some_and(|text| text.starts_with("# ")))
        .map(|file| file.path)
        .collect();
    none("these documents do not open with `# ` and a title", &found);
}

#[test]
fn no_file_is_large() {
    let found: Vec<_> = files()
        .into_iter()
        .filter(|file| file.bytes > BYTES_MAX)
        .map(|file| format!("{}: {} bytes", file.path, file.bytes))
        .collect();
    none("these files have more than 500 kB", &found);
}

#[test]
fn every_command_can_be_run_and_says_what_it_is() {
    use std::os::unix::fs::PermissionsExt as _;
    let scripts: Vec<_> = files()
        .into_iter()
        .filter(|file| file.text.as_ref().is_some_and(|text| text.starts_with("#!")))
        .collect();
    assert!(scripts.iter().any(|file| file.path == "deploy/test"), "deploy/test is missing");
    let mut found = Vec::new();
    for file in scripts {
        let mode = std::fs::metadata(crate::top().join(&file.path)).unwrap().permissions().mode();
        let explained =
            file.text.iter().flat_map(|t| t.lines().nth(1)).any(|l| l.starts_with("# "));
        if mode & 0o111 == 0 || !explained {
            found.push(file.path);
        }
    }
    none("not executable, or without a comment on its second line", &found);
}

#[test]
fn the_pure_crates_have_the_same_lints() {
    let read = |path: &str| std::fs::read_to_string(crate::top().join(path)).unwrap();
    let operators = read("operators/clippy.toml");
    assert_eq!(
        operators,
        read("schemas/clippy.toml"),
        "operators/clippy.toml, schemas/clippy.toml"
    );
    for banned in ["SystemTime::now", "HashMap", "thread::spawn", "fs::File", "TcpStream"] {
        assert!(operators.contains(banned), "operators/clippy.toml no longer bans {banned}");
    }
}

#[test]
fn the_rules_can_be_broken() {
    assert_eq!(lines_without_tests("a\nb\n#[cfg(test)]\nmod tests {\n}\n"), 2);
    assert_eq!(lines_without_tests("a\n#[cfg(test)]\nmod tests;\n"), 3);
    assert!(is_tests("pipeline/tests/kafka/main.rs") && is_tests("a/src/b/tests.rs"));
    assert!(!is_tests("pipeline/src/testing/driver.rs"));
    let mark = concat!("TO", "DO");
    assert!(has_word(&format!("// {mark}: later"), mark) && !has_word("METHODTODOS", mark));
    let allow = concat!("#[all", "ow(dead_code)]");
    assert_eq!(without_reason(allow, "allow"), 1);
    assert_eq!(without_reason(&allow.replace(")]", ", reason = \"r\")]"), "allow"), 0);
}
