//! What the pages of `deploy search` and `deploy calibrate` show: the same as tables and JSON, in words.

use serde_json::Value;

use crate::fixture::Fixture;

/// Four people with three pictures each, enrolled as of one camera and one time, and pictures to search with.
fn town() -> Fixture {
    let fixture = Fixture::new();
    for person in ["ada", "ben", "cleo", "<dan>"] {
        for shot in 0..3 {
            fixture.picture(&format!("set/{person}/{shot}.png"), person, 0.5 * shot as f32);
        }
        fixture.picture(&format!("doors/{person}.png"), person, 0.2);
    }
    fixture.run("enroll @set -m @model.onnx --gallery @people --camera 2 --taken 2026-11-28T14:03").done();
    fixture
}

const SEARCH: &str = "search -m @model.onnx --gallery @people --report @page.html";

/// The page, and what the table and the JSON say.
fn search(fixture: &Fixture, more: &str) -> (String, String, Value) {
    let answer = fixture.run(&format!("{SEARCH} --format json {more}"));
    assert!(answer.code < 2, "{}", answer.stderr);
    let json = serde_json::from_str(&answer.stdout).unwrap();
    let page = std::fs::read_to_string(fixture.path("page.html")).unwrap();
    (page, fixture.run(&format!("{SEARCH} {more}")).stdout, json)
}

/// Sentences about the threshold, which page and table have as well.
fn meaning(page: &str, table: &str, json: &Value) -> String {
    let sentences = json["decision"]["meaning"].as_array().unwrap();
    for sentence in sentences {
        let sentence = sentence.as_str().unwrap();
        assert!(page.contains(&format!("<p>{}</p>", with_code(sentence))), "{sentence} in {page}");
        assert!(table.lines().any(|line| line == sentence), "{sentence} in {table}");
    }
    sentences.iter().map(|sentence| sentence.as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

/// What stands between backticks is code on a page.
fn with_code(sentence: &str) -> String {
    let ends = ["", "<code>", "</code>"];
    let part = |(at, part): (usize, &str)| format!("{}{part}", ends[if at == 0 { 0 } else { 2 - at % 2 }]);
    sentence.split('`').enumerate().map(part).collect()
}

fn shown(similarity: &Value) -> String {
    format!("{:.4}", similarity.as_f64().unwrap() as f32)
}

/// The texts between two marks.
fn between<'a>(page: &'a str, start: &'a str, end: &'a str) -> Vec<&'a str> {
    page.split(start).skip(1).map(|rest| rest.split(end).next().unwrap()).collect()
}

#[test]
fn people_are_shown_with_the_templates_that_make_them() {
    let fixture = town();
    let least = 0.9;
    let more = format!("--query @doors --by subject -k 3 --min-similarity {least}");
    let (page, table, json) = search(&fixture, &more);
    assert!(meaning(&page, &table, &json).contains("0.9000 or more counts as the same person."), "{json}");
    let sections = between(&page, "<section>", "</section>");
    let probes = json["probes"].as_array().unwrap();
    assert_eq!((sections.len(), probes.len()), (4, 4));
    let mut pale = 0;
    for (section, probe) in sections.iter().zip(probes) {
        let matches = probe["matches"].as_array().unwrap();
        let people = between(section, "<li class=\"person", "</li>");
        assert_eq!(people.len(), matches.len());
        let own = matches[0]["identity"].as_str().unwrap().replace('<', "&lt;").replace('>', "&gt;");
        let answer = format!("<p class=\"answer\"><b>{own}</b>, {}", shown(&matches[0]["similarity"]));
        assert!(section.contains(&answer), "{answer} in {section}");
        for (person, found) in people.iter().zip(matches) {
            let templates = found["best_templates"].as_array().unwrap();
            assert_eq!((templates.len(), &found["templates"]), (3, &3.into()));
            assert_eq!(templates[0]["similarity"], found["similarity"], "the most similar counts");
            assert_eq!(templates[0]["template"], found["template"]);
            let mut wanted = vec![shown(&found["similarity"])];
            let bar = 100.0 * found["similarity"].as_f64().unwrap() as f32;
            assert!(person.contains(&format!("width:{bar:.1}%")) && person.contains("left:90.0%"), "{person}");
            for template in templates {
                assert_eq!((&template["camera"], &template["taken"]), (&2.into(), &"2026-11-28T14:03:00Z".into()));
                let name = template["path"].as_str().unwrap().rsplit('/').next().unwrap();
                assert!(person.contains(&format!("<span>{name}</span>")), "{name} in {person}");
                pale += usize::from(template["similarity"].as_f64().unwrap() < least);
                wanted.push(shown(&template["similarity"]));
            }
            assert_eq!(person.matches("cam 3").count(), 3, "cameras count from 1, as in file names");
            assert_eq!(person.matches("2026-11-28 14:03:00 UTC").count(), 3);
            let similarities = between(person, "<span class=\"similarity\">", "<");
            let of_templates = between(person, "<figcaption><b>", "<");
            assert_eq!([similarities, of_templates].concat(), wanted);
        }
    }
    assert!(pale > 0, "some templates are below the threshold");
    assert_eq!(page.matches("below the threshold").count(), pale);
    // A picture is in the page once, however often it is shown.
    let pictures = between(&page, "href=\"data:image/jpeg;base64,", "\"");
    assert_eq!(pictures.len(), pictures.iter().collect::<std::collections::BTreeSet<_>>().len());
    assert!(page.matches("<use href=\"#p").count() > pictures.len() && pictures.len() <= 16, "{}", pictures.len());
    assert!(table.starts_with("probe") && table.contains("templates") && table.contains("most similar"), "{table}");
}

/// A person may have more templates than a page can show: the nearest are shown, and how many there are is said.
#[test]
fn many_templates_are_counted_and_the_nearest_shown() {
    let fixture = Fixture::new();
    for shot in 0..14 {
        fixture.picture(&format!("set/ada/{shot}.png"), "ada", 0.05 * shot as f32);
    }
    fixture.picture("set/ben/0.png", "ben", 0.0);
    fixture.picture("doors/ada.png", "ada", 0.01);
    fixture.run("enroll @set -m @model.onnx --gallery @people").done();
    let (page, _, json) = search(&fixture, "--query @doors --by subject");
    let [ada, ben] = json["probes"][0]["matches"].as_array().unwrap().as_slice() else { panic!("{json}") };
    assert_eq!((&ada["templates"], ada["best_templates"].as_array().unwrap().len()), (&14.into(), 12));
    assert_eq!((&ben["templates"], ben["best_templates"].as_array().unwrap().len()), (&1.into(), 1));
    let similarities: Vec<f64> =
        ada["best_templates"].as_array().unwrap().iter().map(|one| one["similarity"].as_f64().unwrap()).collect();
    assert!(similarities.windows(2).all(|pair| pair[0] >= pair[1]), "{similarities:?}");
    assert!(page.contains("most similar of 14 templates, the nearest 12 shown"), "{page}");
    assert_eq!(page.matches("<figure class=\"template\">").count(), 13);
}

#[test]
fn a_mean_is_called_one() {
    let fixture = town();
    let (page, _, json) = search(&fixture, "--query @doors/ada.png --by subject --fusion mean -k 2");
    let found = &json["probes"][0]["matches"][0];
    assert!(page.contains("mean of 3 templates") && !page.contains("most similar of"), "{page}");
    let templates = found["best_templates"].as_array().unwrap();
    let mean = templates.iter().map(|one| one["similarity"].as_f64().unwrap()).sum::<f64>() / 3.0;
    assert!((found["similarity"].as_f64().unwrap() - mean).abs() < 1e-6, "{found}");
}

#[test]
fn nobody_is_found_above_a_threshold_or_ranked_without_one() {
    let fixture = town();
    fixture.picture("stranger.png", "zoe", 0.0);
    let (page, table, json) = search(&fixture, "--query @stranger.png --by subject --min-similarity 0.999");
    assert!(page.contains("<b>nobody</b> at or above the threshold"), "{page}");
    assert!(table.lines().nth(1).unwrap().contains("nobody"), "{table}");
    assert_eq!(json["probes"][0]["matches"], Value::Array(vec![]));
    let (page, ..) = search(&fixture, "--query @stranger.png --min-similarity 0.999");
    assert!(page.contains("<b>no match</b> at or above the threshold"), "{page}");

    let (page, table, json) = search(&fixture, "--query @stranger.png --by subject -k 2");
    let told = meaning(&page, &table, &json);
    assert!(told.contains("only ranks and decides nothing"), "{told}");
    assert_eq!((json["decision"].get("threshold"), json["decision"].get("fpir")), (None, None));
    let nearest = &json["probes"][0]["matches"][0];
    assert!(page.contains(&format!("nearest: <b>{}</b>, ", nearest["identity"].as_str().unwrap())), "{page}");
    assert!(!page.contains("reaches the threshold") && !page.contains("class=\"mark\""), "there is none");

    // Nobody passes the filter: no threshold is to blame.
    let answer =
        fixture.run("search -m @model.onnx --gallery @people --query @stranger.png --subject ada --subject adda");
    assert!(answer.stderr.contains("`adda`") && !answer.stderr.contains("`ada`"), "{}", answer.stderr);
    let answer = fixture.run("search -m @model.onnx --gallery @people --query @stranger.png --camera 7");
    assert!(answer.code == 1 && answer.stderr.contains("passes the filters"), "{}", answer.stderr);
    let (page, ..) = search(&fixture, "--query @stranger.png --by subject --camera 7");
    assert!(page.contains("<b>nobody</b> in the part of the gallery that was searched"), "{page}");
    assert!(!page.contains("at or above the threshold"), "{page}");
}

/// Six people whose pictures calibrate, and a gallery of four others.
fn calibrating() -> Fixture {
    let fixture = Fixture::new();
    for (at, person) in ["ada", "ben", "cleo", "dan", "eve", "fay"].into_iter().enumerate() {
        for frame in 0..4 {
            fixture.picture(&format!("set/{person}/{frame}.png"), person, 0.3 * frame as f32 + 0.05 * at as f32);
        }
        if at < 4 {
            fixture.picture(&format!("four/{person}/0.png"), person, 0.1);
        }
    }
    fixture.picture("stranger.png", "zoe", 0.0);
    fixture.run("enroll @four -m @model.onnx --gallery @people").done();
    fixture
}

const CALIBRATE: &str = "calibrate -m @model.onnx --datadir @set --far 0.5,0.1,0.01 --fpir 0.5,0.2,0.001 --format json";

/// Page, table and JSON of a search have the record of the calibrated threshold, and words that follow from it.
#[test]
fn a_calibrated_threshold_is_told_with_its_record() {
    let fixture = calibrating();
    let calibrated: Value = serde_json::from_str(&fixture.run(CALIBRATE).done()).unwrap();
    let (page, table, json) = search(&fixture, "--query @stranger.png --by subject --fpir 0.5");
    let decision = &json["decision"];
    assert!(calibrated["threshold"].as_array().unwrap().contains(&decision["threshold"]), "{decision}");
    assert_eq!((&decision["fpir"], &decision["people"]), (&0.5.into(), &4.into()));
    let record = &decision["threshold"];
    assert_eq!(record["measured"]["rate"]["fpir"]["gallery"], 5, "the size measured that is as large");
    assert_eq!(json["min_similarity"].as_f64().unwrap() as f32, record["similarity"].as_f64().unwrap() as f32);
    let told = meaning(&page, &table, &json);
    for words in [
        format!("A similarity of {} or more counts as found.", shown(&record["similarity"])),
        "In galleries of 5 people with 1 template each".to_owned(),
        "Measured on 6 people enrolled and pictures of 6".to_owned(),
        "(`--fpir 0.5`); this gallery has 4 people".to_owned(),
    ] {
        assert!(told.contains(&words), "{words} in {told}");
    }
    let csv = fixture.run(&format!("{SEARCH} --query @stranger.png --by subject --fpir 0.5 --format csv"));
    assert!(csv.stderr.contains("In galleries of 5 people"), "{}", csv.stderr);
}

/// `verify` says what its threshold means, too, and that more templates than it is for let more strangers in.
#[test]
fn a_claim_is_decided_by_a_threshold_with_its_record() {
    let fixture = calibrating();
    let calibrated: Value = serde_json::from_str(&fixture.run(CALIBRATE).done()).unwrap();
    fixture.run("enroll @set/ada @set/ben -m @model.onnx --gallery @twice").done();
    for (gallery, templates) in [("people", 1), ("twice", 4)] {
        let line =
            format!("verify -m @model.onnx --gallery @{gallery} --identity ada --picture @set/ada/0.png --far 0.5");
        let json: Value = serde_json::from_str(&fixture.run(&format!("{line} --format json")).done()).unwrap();
        assert_eq!(json["enrolled_rows"], templates);
        let record = &json["decision"]["threshold"];
        assert!(calibrated["threshold"].as_array().unwrap().contains(record), "{json}");
        assert_eq!(record["similarity"], json["threshold"]);
        let sentences: Vec<&str> =
            json["decision"]["meaning"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
        let table = fixture.run(&line).done();
        assert_eq!(table.lines().skip(1).collect::<Vec<_>>(), sentences);
        let told = sentences.join(" ");
        assert!(told.contains("on 6 people with two pictures or more, and on 15 pairs of people"), "{told}");
        assert_eq!(told.contains("at most 4 times as often"), templates == 4, "{told}");
    }
}

#[test]
fn the_page_of_a_calibration_has_the_values_of_its_json() {
    let fixture = calibrating();
    let json: Value = serde_json::from_str(&fixture.run(&format!("{CALIBRATE} --report @page.html")).done()).unwrap();
    let page = std::fs::read_to_string(fixture.path("page.html")).unwrap();
    assert!(!page.contains("NaN") && !page.contains(">inf") && !page.contains("http"), "{page}");
    let here = fixture.path("set");
    assert!(!page.contains(&*here.parent().unwrap().to_string_lossy()), "a path of this machine in {page}");
    let cells = |line: &str| between(line, "<td>", "</td>").into_iter().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = between(&page, "<tr>", "</tr>").into_iter().map(cells).collect();
    let percent = |rate: f64, digits: usize| format!("{:.digits$} %", 100.0 * rate);
    let thresholds = json["threshold"].as_array().unwrap();
    // Two of three rates of 15 pairs of people, and two of three rates at four sizes.
    assert_eq!(thresholds.len(), 2 + 2 * 4);
    for one in thresholds {
        let number = |path: &str| one.pointer(path).and_then(Value::as_f64).unwrap();
        let ends = |path: &str, digits: usize, flip: bool| {
            let [low, high] = [0, 1].map(|end| number(&format!("/measured/{path}/{end}")));
            let [low, high] = if flip { [1.0 - high, 1.0 - low] } else { [low, high] };
            format!("{} to {}", percent(low, digits), percent(high, digits))
        };
        let similarity = format!("{:.4}", number("/similarity"));
        let wanted = match one["measured"]["rate"]["fpir"]["gallery"].as_u64() {
            None => vec![
                similarity,
                percent(number("/far"), 4),
                ends("far_interval", 4, false),
                percent(number("/tar"), 2),
                ends("tar_interval", 2, false),
            ],
            Some(gallery) => vec![
                gallery.to_string(),
                similarity,
                percent(number("/far"), 4),
                ends("far_interval", 4, false),
                percent(1.0 - number("/tar"), 2),
                ends("tar_interval", 2, true),
            ],
        };
        assert!(lines.contains(&wanted), "{wanted:?} in {lines:?}");
    }
    // What was not measured is said in both, and the rates that were left out are among it.
    let unclaimed = json["not_measured"].as_array().unwrap();
    for sentence in unclaimed {
        assert!(page.contains(&format!("<li>{}</li>", with_code(sentence.as_str().unwrap()))), "{sentence}");
    }
    let all: String = unclaimed.iter().map(|sentence| sentence.as_str().unwrap()).collect::<Vec<_>>().join("\n");
    for words in
        ["15 pairs of people", "false accept rate of 0.01, which takes 100", "of more than 5 people", "takes 1000"]
    {
        assert!(all.contains(words), "{words} in {all}");
    }
    for title in
        [">ROC<", ">DET<", ">Similarities<", ">FNIR over FPIR by people in the gallery<", ">asked for<", ">5 people<"]
    {
        assert!(page.contains(title), "{title}");
    }
    assert_eq!(json["open_set"]["curves"].as_array().unwrap().len(), 4);
    assert!(json["verification"]["curve"].as_array().unwrap().len() > 2, "{json}");

    // Without searches there is no chart of them, and that is said.
    fixture.run("calibrate -m @model.onnx --datadir @set --far 0.5 --report @page.html").done();
    let page = std::fs::read_to_string(fixture.path("page.html")).unwrap();
    assert!(page.contains("searches (1:N) were not measured") && !page.contains("FNIR over FPIR"), "{page}");
    // A page that cannot be written leaves the model as it is.
    let before = std::fs::read(fixture.path("model.onnx")).unwrap();
    fixture.run("calibrate -m @model.onnx --datadir @set --far 0.1 --report @set").error(&["set"]);
    assert_eq!(std::fs::read(fixture.path("model.onnx")).unwrap(), before);
}

/// What cannot be measured is said before anything is embedded, with what is needed.
#[test]
fn pictures_that_cannot_calibrate_are_refused() {
    let fixture = calibrating();
    let refused = |folder: &str, more: &str, facts: &[&str]| {
        let answer = fixture.run(&format!("calibrate -m @model.onnx --datadir @{folder} --far 0.5 {more}"));
        assert!(!answer.stderr.contains("Tiny on"), "{}", answer.stderr);
        answer.error(facts);
    };
    refused("set/ada", "", &["`ada`", "4", "--identity-from"]);
    refused("four", "", &["four"]);
    refused("set", "--fpir 0.5 --templates 7", &["--templates", "7", "8", "4"]);
    fixture.picture("nobody/0000_c1s1_000001_00.png", "zoe", 0.0);
    refused("nobody", "", &["nobody", "--identity-from"]);
}

/// A model keeps the thresholds of searches of its last calibration; those for other templates go, which is said.
#[test]
fn calibrating_for_other_templates_says_what_is_dropped() {
    let fixture = calibrating();
    let line = "calibrate -m @model.onnx --datadir @set --far 0.5 --fpir 0.5";
    let said = fixture.run(&format!("{line} --templates 2"));
    assert!(!said.stderr.contains("dropped"), "{}", said.stderr);
    said.done();
    let again = fixture.run(&format!("{line} --templates 2"));
    assert!(!again.stderr.contains("dropped"), "the same decision: {}", again.stderr);
    let other = fixture.run(&format!("{line} --templates 1"));
    fixtures::assert_names(&other.stderr, &["`--templates 2`"]);
    assert!(other.stderr.contains("dropped"), "{}", other.stderr);
    other.done();
}
