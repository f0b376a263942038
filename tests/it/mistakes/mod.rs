//! Everything that a policy's author can get wrong: it is named, by the API server or in the status and in the same words by
//! every offline verb, nothing is done, and nothing is told that must not be.

mod expressions;
mod others;
mod schema;
mod table;
mod tables;
mod world;

use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use self::table::{By, Input, inputs};
use self::world::{PASSWORD, WRONG_PASSWORD, World};
use crate::api_server::create;
use crate::operator::rig::{LATER, Rig, SOON, condition, is};
use crate::support::operator::offline;
use crate::support::process::{free_port, run_dir, unique};
use crate::support::wait::eventually;

const VERBS: [&str; 3] = ["audit", "plan", "sweep"];
/// Processes at a time.
const WORKERS: usize = 4;

fn policy(input: &Input, namespace: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "retention-operator.io/v1alpha1", "kind": "RetentionPolicy",
        "metadata": {"name": input.name, "namespace": namespace, "annotations": annotations}, "spec": input.spec,
    })
}

#[tokio::test]
async fn every_bad_input_is_named_in_the_same_words_everywhere_and_harms_nobody() {
    let rig = Rig::start("mistakes").await;
    let world = World::prepare(&rig, free_port()).await;
    let inputs = inputs();
    let before = World::contents(&rig).await;

    let mut surprises = stored_or_refused(&rig, &world, &inputs).await;
    surprises.extend(offline_verbs(&rig, &world, &inputs));
    surprises.extend(statuses(&rig, &world, &inputs).await);
    assert!(
        surprises.is_empty(),
        "{} surprises:\n{}",
        surprises.len(),
        surprises.join("\n")
    );

    ended(&rig).await;
    assert_no_hot_loop(&rig).await;
    assert_no_secret(&rig, &inputs).await;
    let mut swept = Vec::new();
    for input in stored(&inputs) {
        let status = rig.get(input.name).await["status"].take();
        if status["totals"]["rowsDeleted"].as_i64().unwrap_or(0) > 0 {
            swept.push(input.name);
        }
    }
    assert!(swept.is_empty(), "policies that deleted rows: {swept:?}");
    assert_eq!(World::contents(&rig).await, before);
}

#[test]
fn the_table_is_long_and_names_each_input_once() {
    let inputs = inputs();
    let by_server = inputs.iter().filter(|input| input.by == By::Server).count();
    let mut names: Vec<&str> = inputs.iter().map(|input| input.name).collect();
    names.sort_unstable();
    names.dedup();

    assert_eq!(names.len(), inputs.len());
    assert!(by_server >= 30 && inputs.len() - by_server >= 80);
    for input in &inputs {
        assert!(!input.says.is_empty(), "{}", input.name);
    }
}

/// Those that the API server takes.
fn stored(inputs: &[Input]) -> impl Iterator<Item = &Input> {
    inputs.iter().filter(|input| input.by != By::Server)
}

/// Creates every policy, with a sweep asked for: the API server refuses those that are its own to refuse, and no others.
async fn stored_or_refused(rig: &Rig, world: &World, inputs: &[Input]) -> Vec<String> {
    let client = rig.plane.client().await;
    let now = jiff::Timestamp::now().to_string();
    let mut surprises = Vec::new();
    for input in inputs {
        let annotations = json!({"retention-operator.io/sweep-requested-at": now});
        let created = create(
            &client,
            &rig.namespace,
            &policy(input, &rig.namespace, annotations),
        )
        .await;
        let as_told = match (&created, input.by) {
            (Err(said), By::Server) => says(said, &world.fill(input.says)),
            (Ok(()), By::Server) | (Err(_), _) => false,
            (Ok(()), _) => true,
        };
        if !as_told {
            surprises.push(format!("{} SERVER {created:?}", input.name));
        }
    }
    surprises
}

/// Where it is wrong and what is said about it. Between the two the API server repeats the value, and sometimes the place.
fn says(said: &str, words: &str) -> bool {
    said.contains(words)
        || words.starts_with("spec")
            && words
                .split_once(": ")
                .is_some_and(|(place, words)| said.contains(place) && said.contains(words))
}

/// Every verb, with the same policy in a file.
fn offline_verbs(rig: &Rig, world: &World, inputs: &[Input]) -> Vec<String> {
    let queue = Mutex::new(inputs.iter());
    let surprises = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().next();
                    let Some(input) = next else { break };
                    let mut found = refused_offline(rig, world, input);
                    surprises.lock().unwrap().append(&mut found);
                }
            });
        }
    });
    surprises.into_inner().unwrap()
}

fn refused_offline(rig: &Rig, world: &World, input: &Input) -> Vec<String> {
    let (address, words) = match input.by {
        By::Server | By::Status => (world.address("app"), input.says),
        By::Address(secret) | By::Nobody(secret) => (world.address(secret), input.says),
        By::Secret(secret, Some(words)) => (world.address(secret), words),
        // Nothing but a Secret is wrong, and offline none is read.
        By::Secret(_, None) => return Vec::new(),
    };
    let words = world.fill(words);
    let file = run_dir()
        .join(unique("mistake", '-'))
        .with_extension("yaml");
    fs::write(&file, policy(input, &rig.namespace, json!({})).to_string()).unwrap();
    let mut surprises = Vec::new();
    for verb in VERBS {
        let ended = offline(address, &[verb, "-f", file.to_str().unwrap()]);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        if ended.code != Some(1) || !says(&said, &words) {
            surprises.push(format!(
                "{} {verb} exits with {:?}: {said}",
                input.name, ended.code
            ));
        }
        for secret in [PASSWORD, WRONG_PASSWORD] {
            // The policy's own file is the author's.
            if said.contains(secret) && !input.spec.to_string().contains(secret) {
                surprises.push(format!("{} {verb} tells a password: {said}", input.name));
            }
        }
    }
    surprises
}

/// What the operator says of those that were stored.
async fn statuses(rig: &Rig, world: &World, inputs: &[Input]) -> Vec<String> {
    let mut surprises = Vec::new();
    for input in stored(inputs) {
        let status = rig
            .status(input.name, LATER, "to be judged", |it| {
                condition(it, "Ready").is_some_and(|it| it.1 != "Progressing")
            })
            .await;
        let (ready, reason, message) = condition(&status, "Ready").unwrap();
        let beside: Vec<&str> = ["Stalled", "Reconciling"]
            .into_iter()
            .filter(|type_| is(&status, type_, "True"))
            .collect();
        let wanted = match input.by {
            By::Nobody(_) => "Reconciling",
            _ => "Stalled",
        };
        // A rule's own message is longer than what the condition has room for behind the rule's name.
        let said = match status["rules"][0]["message"].as_str() {
            Some(of_rule) if reason == "RulesRefused" => of_rule,
            _ => message,
        };
        if ready != "False"
            || beside != [wanted]
            || said != world.fill(input.says)
            || message.len() > 256
        {
            surprises.push(format!(
                "{} STATUS Ready={ready} {reason} beside {beside:?} (wanted {wanted}): {said}",
                input.name
            ));
        }
    }
    surprises
}

/// Every requested sweep has ended, or waits for its database.
async fn ended(rig: &Rig) {
    eventually(SOON, "the sweeps to end", async || {
        let running = rig.metric("retention_operator_sweeps_running", "").await;
        if running.abs() < 0.5 {
            Ok(())
        } else {
            Err(running)
        }
    })
    .await;
}

/// Over ten seconds: a stretch of time is what is looked at here; no condition stands for it.
async fn assert_no_hot_loop(rig: &Rig) {
    let counters = async || {
        [
            rig.metric("retention_operator_audits_total", "").await,
            rig.metric("retention_operator_reconciles_total", "").await,
            rig.metric("retention_operator_status_writes_total", "")
                .await,
        ]
    };
    // Ended sweeps are followed by an audit each; those belong to the requests.
    eventually(LATER, "the audits after the sweeps to end", async || {
        let before = counters().await[0];
        tokio::time::sleep(Duration::from_secs(2)).await;
        let audits = counters().await[0] - before;
        if audits <= 1.0 { Ok(()) } else { Err(audits) }
    })
    .await;
    let before = counters().await;

    tokio::time::sleep(Duration::from_secs(10)).await;

    let after = counters().await;
    let grown = [0, 1, 2].map(|index: usize| after[index] - before[index]);
    // Two databases do not answer, and are asked again ever more rarely; nobody else is looked at.
    assert!(
        grown[0] <= 6.0 && grown[1] <= 20.0 && grown[2] <= 8.0,
        "audits, looks and status writes of ten seconds: {grown:?}"
    );
}

async fn assert_no_secret(rig: &Rig, inputs: &[Input]) {
    let mut seen = vec![
        rig.logs(),
        rig.http("/metrics").await.unwrap(),
        rig.events().await.join("\n"),
    ];
    for input in stored(inputs) {
        seen.push(rig.get(input.name).await.to_string());
    }
    for secret in [PASSWORD, WRONG_PASSWORD] {
        for text in &seen {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
