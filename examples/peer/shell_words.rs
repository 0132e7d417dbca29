//! Splits a command line into words as a POSIX shell does, without any of its expansions.

/// Splits `line` at unquoted white space. A backslash takes the next character as it is, single
/// quotes all characters between them, double quotes all but backslashes before `"`, `\`, `$`,
/// `` ` `` and the end of a line.
pub(crate) fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    // None between words: an empty pair of quotes is a word too.
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => single_quoted(&mut characters, word.get_or_insert_default())?,
            '"' => double_quoted(&mut characters, word.get_or_insert_default())?,
            '\\' => match characters.next() {
                Some('\n') => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
                None => return Err("nothing after the last backslash"),
            },
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single_quoted(
    characters: &mut impl Iterator<Item = char>,
    word: &mut String,
) -> Result<(), &'static str> {
    for character in characters {
        match character {
            '\'' => return Ok(()),
            _ => word.push(character),
        }
    }
    Err("a single quote is not closed")
}

fn double_quoted(
    characters: &mut impl Iterator<Item = char>,
    word: &mut String,
) -> Result<(), &'static str> {
    while let Some(character) = characters.next() {
        match character {
            '"' => return Ok(()),
            '\\' => match characters.next() {
                Some('\n') => {}
                Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                Some(other) => word.extend(['\\', other]),
                None => break,
            },
            _ => word.push(character),
        }
    }
    Err("a double quote is not closed")
}
