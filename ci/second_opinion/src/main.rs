//! A second runtime's word on the models that the tests export: rten, which shares no code with ONNX Runtime.
//!
//! usage: second_opinion MODELS EXPECTED
//!
//! Below MODELS lies a folder per model in the layout of ONNX's own test data: `model.onnx` and
//! `test_data_set_N/{input,output}_M.pb`. Each is run and its answers are compared. EXPECTED lists the models that
//! rten is known not to run, or to run wrong (the reason then starts with `differs`); a model that fails and is not
//! listed is an error, and so is one that is listed and agrees, fails for another reason or is gone. Exit 0 all as
//! expected, 1 not, 2 nothing could be compared.

mod case;
mod expected;
mod opinion;

use std::path::Path;
use std::process::ExitCode;

use opinion::Opinion;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [models, expected] = arguments.as_slice() else {
        eprintln!("usage: second_opinion MODELS EXPECTED");
        return ExitCode::from(2);
    };
    match compare(Path::new(models), Path::new(expected)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(2)
        }
    }
}

/// Whether all models do as `expected` says.
fn compare(models: &Path, expected: &Path) -> Result<bool, String> {
    let text = std::fs::read_to_string(expected).map_err(|e| format!("cannot read `{}`: {e}", expected.display()))?;
    let expected = expected::parse(&text)?;
    let mut opinions = vec![];
    // rten may panic where it should refuse; the message would be lost among the lines.
    std::panic::set_hook(Box::new(|_| ()));
    for folder in case::folders(models)? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let opinion = opinion::of(&folder)?;
        match &opinion {
            Opinion::Agrees { worst, nodes } => println!("agrees  {name:32} {nodes:5} nodes, within {worst:.1e}"),
            Opinion::Refuses(reason) => println!("refuses {name:32} {reason}"),
            Opinion::Differs(how) => println!("DIFFERS {name:32} {how}"),
        }
        opinions.push((name, opinion));
    }
    if opinions.is_empty() {
        return Err(format!("no model below `{}`; ci/test leaves them there", models.display()));
    }
    let count = |wanted: fn(&Opinion) -> bool| opinions.iter().filter(|(_, opinion)| wanted(opinion)).count();
    println!(
        "second opinion: {} models, {} agree, {} refused by rten, {} differ; {} expected not to agree",
        opinions.len(),
        count(|opinion| matches!(opinion, Opinion::Agrees { .. })),
        count(|opinion| matches!(opinion, Opinion::Refuses(_))),
        count(|opinion| matches!(opinion, Opinion::Differs(_))),
        expected.len(),
    );
    let surprises = expected::surprises(&expected, &opinions);
    surprises.iter().for_each(|surprise| eprintln!("error: {surprise}"));
    Ok(surprises.is_empty())
}
