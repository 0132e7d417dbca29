//! Tables, for people in a terminal or as Markdown.

pub(crate) struct Table {
    lines: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(titles: [&str; N]) -> Self {
        Self {
            lines: vec![titles.map(str::to_owned).to_vec()],
        }
    }

    pub(crate) fn push<const N: usize>(&mut self, line: [String; N]) {
        self.lines.push(Vec::from(line));
    }

    pub(crate) fn print(&self, is_markdown: bool) {
        if is_markdown {
            self.print_markdown();
        } else {
            self.print_text();
        }
        println!();
    }

    fn print_markdown(&self) {
        for (number, line) in self.lines.iter().enumerate() {
            println!("| {} |", line.join(" | "));
            if number == 0 {
                println!("|---{}|", "|---:".repeat(line.len() - 1));
            }
        }
    }

    fn print_text(&self) {
        let widths: Vec<usize> = (0..self.lines[0].len())
            .map(|column| {
                let cells = self.lines.iter().map(|line| line[column].chars().count());
                cells.max().unwrap_or(0)
            })
            .collect();
        for line in &self.lines {
            print!("{:<1$}", line[0], widths[0]);
            for (cell, width) in line.iter().zip(&widths).skip(1) {
                print!("  {cell:>width$}");
            }
            println!();
        }
    }
}
