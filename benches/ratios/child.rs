//! Sections that need a process of their own: this program again, which prints its figures.

use std::env;
use std::process::{Command, Stdio};

use packetstream::BoxError;

use crate::options::{Options, Row};

/// The settings with which glibc keeps memory and takes plenty at once: fresh pages are taken from
/// the system once, and not for every payload.
const WARM: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "1073741824"),
    ("MALLOC_TRIM_THRESHOLD_", "4294967295"),
    ("MALLOC_TOP_PAD_", "67108864"),
];

/// Figures by name. As text, a line for each: the name, a space, the number.
#[derive(Default)]
pub(crate) struct Figures {
    figures: Vec<(String, f64)>,
}

impl Figures {
    pub(crate) fn add(&mut self, name: &str, figure: Option<f64>) {
        self.figures.extend(figure.map(|it| (name.to_owned(), it)));
    }

    pub(crate) fn of(&self, name: &str) -> Option<f64> {
        let (_, figure) = self.figures.iter().find(|(it, _)| it == name)?;
        Some(*figure)
    }

    pub(crate) fn print(&self) {
        for (name, figure) in &self.figures {
            println!("{name} {figure:e}");
        }
    }

    fn parse(text: &str) -> Result<Self, BoxError> {
        let mut figures = Self::default();
        for line in text.lines() {
            let (name, figure) = line.split_once(' ').ok_or("a child's line is no figure")?;
            figures.add(name, Some(figure.parse()?));
        }
        Ok(figures)
    }
}

/// Measures a section in a child, which runs on the cores that this thread runs on.
pub(crate) fn measure(section: Row, options: &Options) -> Result<Figures, BoxError> {
    run(&mut command(section, options)?)
}

/// The same with an allocator that keeps its memory, if there is a way to have that.
pub(crate) fn measure_warm(section: Row, options: &Options) -> Result<Option<Figures>, BoxError> {
    if cfg!(not(target_env = "gnu")) {
        return Ok(None);
    }
    run(command(section, options)?.envs(WARM)).map(Some)
}

fn command(section: Row, options: &Options) -> Result<Command, BoxError> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(format!("--section={section}"));
    if options.is_quick {
        command.arg("--quick");
    }
    Ok(command)
}

fn run(command: &mut Command) -> Result<Figures, BoxError> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", output.status).into());
    }
    Figures::parse(str::from_utf8(&output.stdout)?)
}
