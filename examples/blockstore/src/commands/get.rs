//! Getting a file.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use blockstore::hash::HashCode;

use super::Server;
use crate::output;
use crate::progress::Bar;

pub(crate) fn get(root: HashCode, output: &Path, server: &Server) -> Result<ExitCode> {
    server.with_client(root.kind(), |client| {
        let bar = Bar::new(0);
        let mut got = 0;
        let mut fetch = |mut out: &mut dyn Write| {
            client.read(root, &mut out, |written, span| {
                got = written;
                bar.show(written, span);
            })?;
            Ok(())
        };
        let outcome = if output == Path::new("-") {
            fetch(&mut io::stdout().lock())
        } else {
            output::write(output, fetch)
        };
        outcome.with_context(|| format!("stopped after {got} bytes of {root}"))
    })?;
    Ok(ExitCode::SUCCESS)
}
