//! Generations of a topic: `p.in`, then `p.in.g2`, `p.in.g3`, each with its own number of partitions.
//!
//! Lives here: names. Which generation is in force, the spec says (`[topics.in] generation = 2`) and
//! the log remembers (`admin::repartition`). Invariant: each name has one base and one number. A base
//! has the pipeline's name before its first dot, so a topic `g2` of pipeline `p` is its own first one.

/// The name of this generation of a topic; the first one is that of the topic itself.
#[must_use]
pub fn named(base: &str, number: u32) -> String {
    if number <= 1 { base.to_owned() } else { format!("{base}.g{number}") }
}

/// The base and the number of a topic's full name.
#[must_use]
pub fn split(name: &str) -> (&str, u32) {
    let told = name.rsplit_once(".g").and_then(|(base, digits)| {
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        let number = digits.parse().ok().filter(|number| plain && *number > 1)?;
        Some((base, number))
    });
    told.filter(|(base, _)| base.contains('.')).unwrap_or((name, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_base_and_one_number() {
        for (name, base, number) in [
            ("p.in", "p.in", 1),
            ("p.in.g2", "p.in", 2),
            ("p.in.g17", "p.in", 17),
            ("p.in.g2.g3", "p.in.g2", 3),
            ("p.in.g1", "p.in.g1", 1),
            ("p.in.g02", "p.in.g02", 1),
            ("p.in.g", "p.in.g", 1),
            ("p.in.g+2", "p.in.g+2", 1),
            ("p.in.gx2", "p.in.gx2", 1),
            ("p.in.g4294967296", "p.in.g4294967296", 1),
            ("p.g2", "p.g2", 1),
            (".g2", ".g2", 1),
        ] {
            assert_eq!(split(name), (base, number), "{name}");
            assert_eq!(named(base, number), name);
        }
    }

    #[test]
    fn a_stages_state_is_of_its_inputs_generation_and_topics_keep_their_short_names() {
        use crate::spec::{parse::parse, plan::Plan};
        let plan = |input: &str, number: u32| {
            let text = format!(
                "[pipeline]\nname = \"p\"\n[topics.in]\npartitions = 8\ngeneration = {number}\n\
                 [[stage]]\nname = \"s\"\ninput = \"{input}\"\noutput = [\"out\"]\n\
                 [[stage.operators]]\nuse = \"batch\"\nrecord = \"r\"\n"
            );
            let (spec, source) = parse("p.toml", &text, &|_| None).unwrap();
            Plan::new(&spec, &source)
        };
        for (number, input, state) in [
            (1, "p.in", "p.s.state"),
            (2, "p.in.g2", "p.s.state.g2"),
            (3, "p.in.g3", "p.s.state.g3"),
        ] {
            let plan = plan("in", number).unwrap();
            let stage = &plan.stages[0].0;
            assert_eq!((stage.input.name.as_str(), stage.input.partitions), (input, 8));
            assert_eq!((stage.changelog.name.as_str(), stage.changelog.partitions), (state, 8));
            for name in ["in", "p.in", input] {
                assert_eq!(plan.topic(name).map(|topic| topic.name.as_str()), Some(input));
            }
            assert_eq!(plan.topic("out").map(|topic| topic.partitions), Some(4));
        }
        for (input, number, sentence) in
            [("in.g2", 2, "is the name of a generation"), ("in", 0, "counted from 1")]
        {
            let errors = plan(input, number).unwrap_err();
            assert!(errors.iter().any(|e| e.to_string().contains(sentence)), "{errors:?}");
        }
    }
}
