//! Completions of shells, and the manual.

use std::process::Command;

use crate::fixture::Fixture;

/// Every verb that help shows, `help` left out.
fn verbs(fixture: &Fixture) -> Vec<String> {
    let help = fixture.run("--help").done();
    let listed = help.split("Commands:").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    let named = |line: &str| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')).map(str::to_owned);
    let verbs = listed.lines().filter_map(named).filter_map(|line| Some(line.split_whitespace().next()?.to_owned()));
    verbs.filter(|verb| verb != "help").collect()
}

#[test]
fn bash_completes_verbs_and_flags_with_what_the_program_prints() {
    let fixture = Fixture::new();
    let script = fixture.path("deploy.bash");
    std::fs::write(&script, fixture.run("completions bash").done()).unwrap();
    let offered = |words: &str| {
        // As readline calls the function that `complete -F` has named: the words, and which of them is typed.
        let line = format!(
            "source '{}'; [[ $(complete -p deploy) == *' -F _deploy '* ]] || exit 3\n\
             COMP_WORDS=(deploy {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _deploy deploy \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &line]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(offered("sear"), ["search"]);
    assert_eq!(offered("search --top"), ["--top-k"]);
    assert_eq!(offered("gallery mig"), ["migrate"]);
    let all = offered("''");
    for verb in verbs(&fixture) {
        assert!(all.contains(&verb), "{verb}: {all:?}");
    }
}

#[test]
fn every_shell_has_completions_and_no_other_word_is_one() {
    let fixture = Fixture::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let text = fixture.run(&format!("completions {shell}")).done();
        for word in ["calibrate", "identity-from", "rotate-key"] {
            assert!(text.contains(word), "{shell} has no {word}");
        }
    }
    fixture.run("completions tcsh").error(&["tcsh", "bash", "elvish", "fish", "powershell", "zsh"]);
}

#[test]
fn the_manual_has_a_page_for_every_verb_with_its_flags() {
    let fixture = Fixture::new();
    assert!(fixture.run("man @new/man1").done().ends_with("new/man1/deploy.1\n"));
    let page = |name: &str| {
        let path = fixture.path("new/man1").join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let verbs = verbs(&fixture);
    assert!(verbs.len() > 15, "{verbs:?}");
    for verb in &verbs {
        let text = page(&format!("deploy-{verb}.1"));
        assert!(text.contains(&format!(".TH deploy-{verb} 1")) || text.contains(&format!(".TH {verb} 1")), "{text}");
        assert!(page("deploy.1").contains(&format!("deploy\\-{verb}(1)")), "{verb}");
    }
    assert!(page("deploy-search.1").contains("\\-\\-min\\-similarity"));
    assert!(page("deploy-gallery-migrate.1").contains("\\-\\-pictures"));
    // What help does not show is not in the manual.
    assert!(!fixture.path("new/man1/deploy-migrate.1").exists());
    std::fs::write(fixture.path("taken"), "").unwrap();
    fixture.run("man @taken").error(&["taken"]);
}
