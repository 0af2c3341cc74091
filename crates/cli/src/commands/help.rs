//! Completions and manual pages, made from the definition of the command line.

use std::io;
use std::path::Path;

use clap::CommandFactory;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output::{note, write};

/// Prints the completion script of a shell.
pub fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "skinny", &mut script);
    write(&script)
}

/// Prints the manual page, or writes one page per verb into a folder.
pub fn man(out: Option<&Path>) -> Result<(), Failure> {
    let Some(folder) = out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Arguments::command()).render(&mut page)?;
        return write(&page);
    };
    let refuse = |error: io::Error| {
        Failure::usage(format!(
            "{}: cannot be written: {error}; choose another --out",
            folder.display()
        ))
    };
    std::fs::create_dir_all(folder).map_err(refuse)?;
    clap_mangen::generate_to(Arguments::command(), folder).map_err(refuse)?;
    note!("the manual pages are in {}", folder.display());
    Ok(())
}
