//! What readers of JUnit XML agree on, as a check: which elements stand where, which attributes they have, and that the counts
//! are those of the cases. For tests.

use std::collections::BTreeMap;

use quick_xml::{Reader, events::Event};

/// An element with what is in it.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) children: Vec<Self>,
    pub(super) text: String,
}

/// What an element may hold.
struct Rule {
    required: &'static [&'static str],
    optional: &'static [&'static str],
    children: &'static [&'static str],
    /// Text, and nothing else.
    text: bool,
}

const COUNTS: [&str; 4] = ["tests", "failures", "errors", "skipped"];

fn rule(element: &str) -> Option<Rule> {
    Some(match element {
        "testsuites" => Rule {
            required: &["name", "tests", "failures", "errors"],
            optional: &["time"],
            children: &["testsuite"],
            text: false,
        },
        "testsuite" => Rule {
            required: &["name", "tests", "failures", "errors", "skipped"],
            optional: &["time", "timestamp"],
            children: &["testcase", "system-out"],
            text: false,
        },
        "testcase" => Rule {
            required: &["classname", "name", "time"],
            optional: &[],
            children: &["failure", "error", "system-out"],
            text: false,
        },
        "failure" | "error" => Rule {
            required: &["message", "type"],
            optional: &[],
            children: &[],
            text: true,
        },
        "system-out" => Rule {
            required: &[],
            optional: &[],
            children: &[],
            text: true,
        },
        _ => return None,
    })
}

/// A character that XML 1.0 knows.
pub(super) fn is_char(c: char) -> bool {
    matches!(u32::from(c), 0x9 | 0xa | 0xd | 0x20..=0xd7ff | 0xe000..=0xfffd | 0x10000..=0x0010_ffff)
}

/// Reads a report, if it is one.
pub(super) fn validate(xml: &str) -> Result<Element, String> {
    if let Some(c) = xml.chars().find(|c| !is_char(*c)) {
        return Err(format!("{c:?} is no character of XML"));
    }
    let root = parse(xml)?;
    if root.name != "testsuites" {
        return Err(format!("the root is {}", root.name));
    }
    check(&root)?;
    counts(&root)?;
    Ok(root)
}

fn parse(xml: &str) -> Result<Element, String> {
    let mut reader = Reader::from_str(xml);
    reader.config_mut().check_end_names = true;
    let mut open: Vec<Element> = vec![Element::default()];
    loop {
        let event = reader.read_event().map_err(|error| error.to_string())?;
        match event {
            Event::Decl(_) => {}
            Event::Start(start) => open.push(begun(&start)?),
            Event::Empty(start) => {
                let element = begun(&start)?;
                parent(&mut open)?.children.push(element);
            }
            Event::End(_) => {
                let element = open.pop().ok_or("closed twice")?;
                parent(&mut open)?.children.push(element);
            }
            Event::Text(text) => {
                parent(&mut open)?.text.push_str(&text.xml10_content());
            }
            Event::GeneralRef(reference) => {
                let text = resolved(&reference)?;
                parent(&mut open)?.text.push_str(&text);
            }
            Event::Eof => break,
            other => return Err(format!("{other:?} does not belong here")),
        }
    }
    let top = open.pop().filter(|_| open.is_empty()).ok_or("not closed")?;
    let mut roots = top.children.into_iter();
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root),
        _ => Err("not one root".to_owned()),
    }
}

fn parent(open: &mut [Element]) -> Result<&mut Element, String> {
    open.last_mut().ok_or_else(|| "closed twice".to_owned())
}

fn begun(start: &quick_xml::events::BytesStart<'_>) -> Result<Element, String> {
    let mut element = Element {
        name: start.name().0.to_owned(),
        ..Element::default()
    };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let name = attribute.key.0.to_owned();
        let value = unescaped(&attribute.value)?;
        if element.attributes.insert(name.clone(), value).is_some() {
            return Err(format!("{name} twice"));
        }
    }
    Ok(element)
}

fn unescaped(raw: &str) -> Result<String, String> {
    if raw.contains('<') {
        return Err("< in an attribute".to_owned());
    }
    let mut parts = raw.split('&');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(';').ok_or("& that begins nothing")?;
        out.push_str(&resolved(name)?);
        out.push_str(rest);
    }
    Ok(out)
}

/// What `&name;` stands for.
fn resolved(name: &str) -> Result<String, String> {
    let code = match name {
        "amp" => return Ok("&".to_owned()),
        "lt" => return Ok("<".to_owned()),
        "gt" => return Ok(">".to_owned()),
        "quot" => return Ok("\"".to_owned()),
        "apos" => return Ok("'".to_owned()),
        _ => match name.strip_prefix("#x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => name.strip_prefix('#').and_then(|code| code.parse().ok()),
        },
    };
    code.and_then(char::from_u32)
        .filter(|c| is_char(*c))
        .map(String::from)
        .ok_or_else(|| format!("&{name}; is no character of XML"))
}

fn check(element: &Element) -> Result<(), String> {
    let name = &element.name;
    let rule = rule(name).ok_or_else(|| format!("nobody knows {name}"))?;
    for required in rule.required {
        if !element.attributes.contains_key(*required) {
            return Err(format!("{name} lacks {required}"));
        }
    }
    for (attribute, value) in &element.attributes {
        let attribute = attribute.as_str();
        if !rule.required.contains(&attribute) && !rule.optional.contains(&attribute) {
            return Err(format!("{name} has {attribute}"));
        }
        if COUNTS.contains(&attribute) && value.parse::<u32>().is_err() {
            return Err(format!("{attribute}={value} is no count"));
        }
        if attribute == "time" && value.parse::<f64>().is_err() {
            return Err(format!("{attribute}={value} is no time"));
        }
    }
    if !rule.text && !element.text.trim().is_empty() {
        return Err(format!("text in {name}: {:?}", element.text));
    }
    for child in &element.children {
        if !rule.children.contains(&child.name.as_str()) {
            return Err(format!("{} in {name}", child.name));
        }
        check(child)?;
    }
    let ends = element
        .children
        .iter()
        .filter(|child| matches!(child.name.as_str(), "failure" | "error"));
    if ends.count() > 1 {
        return Err(format!("{name} ends more than once"));
    }
    Ok(())
}

/// A suite counts its cases, and the root those of all suites.
fn counts(root: &Element) -> Result<(), String> {
    let mut sums = [0_usize; 3];
    for suite in &root.children {
        let ended = |kind: &str| {
            let cases = suite.children.iter();
            cases
                .filter(|case| case.children.iter().any(|child| child.name == kind))
                .count()
        };
        let cases = suite.children.iter();
        let cases = cases.filter(|child| child.name == "testcase").count();
        let counted = [cases, ended("failure"), ended("error")];
        claimed(suite, counted)?;
        for (sum, count) in sums.iter_mut().zip(counted) {
            *sum += count;
        }
    }
    claimed(root, sums)
}

fn claimed(element: &Element, counted: [usize; 3]) -> Result<(), String> {
    for (attribute, count) in COUNTS.into_iter().zip(counted) {
        let claimed = element.attributes.get(attribute);
        if claimed.is_none_or(|claimed| *claimed != count.to_string()) {
            return Err(format!(
                "{} says {attribute}={claimed:?}, and there are {count}",
                element.name
            ));
        }
    }
    Ok(())
}
