use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use wherry_agent_api::{SessionInput, SessionKind, SessionOutput, TerminalSize};
use wherry_control::{
    AuditKind, AuditOutcome, AuditRecord, EntriesRequest, EntryPage, EntryState, EntryView, Error, ExecRequest,
    InstanceSession,
};
use wherry_model::{AuditId, ContainerName, Principal, ScopeSet};
use wherry_testkit::{Stack, eventually, main_container, spec};

use crate::support::stop;

async fn running() -> Stack {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    stack.agent().obey().await;
    stack
}

fn program(words: &[&str]) -> SessionKind {
    let command = words.iter().map(|word| (*word).to_owned()).collect();
    SessionKind::Exec { container: main_container(), command, stdin: true, tty: None }
}

/// Each later than the one before, for entries are told by their time.
async fn begin(stack: &Stack, kind: SessionKind) -> Result<InstanceSession, Error> {
    stack.advance(Duration::from_millis(1));
    let acme = stack.acme();
    stack.control().instance_session(&acme.principal, &acme.project, "web", kind).await
}

const ALL: EntriesRequest = EntriesRequest { instance: None, cursor: None, limit: 50 };

async fn entries(stack: &Stack) -> Vec<EntryView> {
    let acme = stack.acme();
    stack.control().entries(&acme.principal, &acme.project, ALL).await.unwrap().entries
}

/// The latest entry once it has ended.
async fn latest_ended(stack: &Stack) -> EntryView {
    eventually("the end is on record", || async {
        let latest = entries(stack).await.into_iter().next()?;
        (latest.state == EntryState::Ended).then_some(latest)
    })
    .await
}

async fn say(session: &mut InstanceSession, message: SessionInput) {
    session.input.send(message).await.unwrap();
}

async fn hear(session: &mut InstanceSession) -> SessionOutput {
    session.output.next().await.expect("something is said").unwrap()
}

#[tokio::test]
async fn a_conversation_is_on_record_from_before_it_begins_until_its_end() {
    let stack = running().await;
    let mut session = begin(&stack, program(&["cat"])).await.unwrap();
    let [open] = &entries(&stack).await[..] else { panic!("one entry") };
    assert_eq!((open.state, open.record.kind), (EntryState::Open, AuditKind::Exec));
    assert_eq!((&open.record.command[..], open.record.name.as_str()), (&["cat".to_owned()][..], "web"));
    assert_eq!(open.record.actor, stack.acme().principal.subject.to_string());
    say(&mut session, SessionInput::Data(b"hello".to_vec())).await;
    assert_eq!(hear(&mut session).await, SessionOutput::Stdout(b"hello".to_vec()));
    say(&mut session, SessionInput::End).await;
    assert_eq!(hear(&mut session).await, SessionOutput::Exited(0));
    assert!(session.output.next().await.is_none());
    drop(session);
    let end = latest_ended(&stack).await.record.end.unwrap();
    assert_eq!((end.outcome, end.exit_code, end.bytes_in, end.bytes_out), (AuditOutcome::Ended, Some(0), 5, 5));
}

#[tokio::test]
async fn how_it_ended_is_on_record() {
    let stack = running().await;
    let mut session = begin(&stack, program(&["exit", "3"])).await.unwrap();
    assert_eq!(hear(&mut session).await, SessionOutput::Stderr(b"exit 3".to_vec()));
    assert_eq!(hear(&mut session).await, SessionOutput::Exited(3));
    drop(session);
    let end = latest_ended(&stack).await.record.end.unwrap();
    assert_eq!((end.outcome, end.exit_code), (AuditOutcome::Ended, Some(3)));

    let left = begin(&stack, program(&["sleep"])).await.unwrap();
    assert_eq!(stack.agent().conversations(), 1);
    drop(left);
    assert_eq!(latest_ended(&stack).await.record.end.unwrap().outcome, AuditOutcome::Left);
    assert_eq!(stack.agent().conversations(), 0, "the node is left too");

    let refused = begin(&stack, program(&["no-such-program"])).await.unwrap_err();
    assert_eq!(refused.code(), "cannot_begin");
    assert_eq!(latest_ended(&stack).await.record.end.unwrap().outcome, AuditOutcome::Refused);

    let mut broken = begin(&stack, program(&["break"])).await.unwrap();
    let error = broken.output.next().await.unwrap().unwrap_err();
    assert!(!error.to_string().contains("10.9.8.7"), "{error}");
    drop(broken);
    assert_eq!(latest_ended(&stack).await.record.end.unwrap().outcome, AuditOutcome::Broken);
}

#[tokio::test]
async fn terminals_attaching_and_ports() {
    let stack = running().await;
    let size = |columns, rows| TerminalSize { columns, rows };
    let kind = SessionKind::Exec {
        container: main_container(),
        command: vec!["size".to_owned()],
        stdin: true,
        tty: Some(size(80, 24)),
    };
    let mut terminal = begin(&stack, kind).await.unwrap();
    assert_eq!(hear(&mut terminal).await, SessionOutput::Stdout(b"80x24\n".to_vec()));
    say(&mut terminal, SessionInput::Resize(size(132, 50))).await;
    assert_eq!(hear(&mut terminal).await, SessionOutput::Stdout(b"132x50\n".to_vec()));

    let attach = SessionKind::Attach { container: main_container(), stdin: false, tty: None };
    let mut attached = begin(&stack, attach).await.unwrap();
    assert_eq!(hear(&mut attached).await, SessionOutput::Stdout(b"attached\n".to_vec()));
    let mut port = begin(&stack, SessionKind::Port { port: 8080 }).await.unwrap();
    say(&mut port, SessionInput::Data(b"GET".to_vec())).await;
    assert_eq!(hear(&mut port).await, SessionOutput::Stdout(b"GET".to_vec()));
    assert_eq!(begin(&stack, SessionKind::Port { port: 81 }).await.unwrap_err().code(), "cannot_begin");
    let ways: Vec<_> = entries(&stack).await.iter().map(|entry| (entry.record.kind, entry.record.port)).rev().collect();
    let port = AuditKind::PortForward;
    assert_eq!(ways, [(AuditKind::Exec, None), (AuditKind::Attach, None), (port, Some(8080)), (port, Some(81))]);
}

#[tokio::test]
async fn what_cannot_be_entered_is_refused_and_not_on_record() {
    let stack = Stack::start().await;
    stack.create(stack.acme(), "web", spec()).await;
    assert_eq!(begin(&stack, program(&["cat"])).await.unwrap_err().code(), "instance_not_running");
    assert_eq!(begin(&stack, SessionKind::Port { port: 80 }).await.unwrap_err().code(), "instance_not_running");
    stack.agent().obey().await;
    let tty = |columns, rows| SessionKind::Attach {
        container: main_container(),
        stdin: true,
        tty: Some(TerminalSize { columns, rows }),
    };
    for (kind, field) in [
        (program(&[]), "command"),
        (program(&["a\0"]), "command"),
        (tty(0, 1), "columns"),
        (tty(1, 0), "rows"),
        (SessionKind::Port { port: 0 }, "port"),
    ] {
        assert_eq!(begin(&stack, kind).await.unwrap_err().field(), Some(field));
    }
    let side = ContainerName::new("side").unwrap();
    let missing = SessionKind::Attach { container: side, stdin: false, tty: None };
    assert_eq!(begin(&stack, missing).await.unwrap_err().code(), "not_found");
    let acme = stack.acme();
    let reader: ScopeSet = "instances:read instances:write logs:read".parse().unwrap();
    let kind = program(&["cat"]);
    let refused = stack.control().instance_session(&acme.with_scopes(reader), &acme.project, "web", kind.clone()).await;
    assert_eq!(refused.unwrap_err().code(), "insufficient_scope");
    let blue = stack.blue();
    let foreign = stack.control().instance_session(&blue.principal, &blue.project, "web", kind).await;
    assert_eq!(foreign.unwrap_err().code(), "not_found");
    assert_eq!(entries(&stack).await.len(), 0);
    stop(&stack, stack.acme(), "web").await.unwrap();
    stack.agent().obey().await;
    assert_eq!(begin(&stack, program(&["cat"])).await.unwrap_err().code(), "instance_not_running");
}

#[tokio::test]
async fn input_in_one_request() {
    let stack = running().await;
    let acme = stack.acme();
    let run = async |words: &[&str], stdin: Vec<u8>, timeout_seconds: u32| {
        let command = words.iter().map(|word| (*word).to_owned()).collect();
        let request = ExecRequest { command, stdin: Some(stdin), timeout_seconds };
        stack.control().instance_exec(&acme.principal, &acme.project, "web", &main_container(), request).await
    };
    let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).take(1024 * 1024).collect();
    let done = run(&["cat"], text.clone(), 60).await.unwrap();
    assert_eq!((done.exit_code, done.truncated), (0, false));
    assert!(done.stdout == text, "all of the input came back");
    let end = latest_ended(&stack).await.record.end.unwrap();
    assert_eq!((end.bytes_in, end.bytes_out), (1024 * 1024, 1024 * 1024));
    assert_eq!(run(&["exit", "7"], Vec::new(), 60).await.unwrap().exit_code, 7);
    let late = run(&["sleep"], b"x".to_vec(), 1).await.unwrap();
    assert_eq!(late.exit_code, 124);
    assert_eq!(stack.agent().conversations(), 0);
    let refused = run(&["cat"], vec![0; 1024 * 1024 + 1], 60).await.unwrap_err();
    assert_eq!(refused.field(), Some("stdin"));
}

#[tokio::test]
async fn entries_belong_to_their_project_and_all_of_them_to_the_operator() {
    let stack = running().await;
    for _ in 0..5 {
        drop(begin(&stack, program(&["cat"])).await.unwrap());
    }
    let (acme, blue) = (stack.acme(), stack.blue());
    let read = async |principal: &Principal, request: EntriesRequest| -> Result<EntryPage, Error> {
        stack.control().entries(principal, &acme.project, request).await
    };
    assert_eq!(read(&blue.principal, ALL).await.unwrap().entries.len(), 0);
    assert_eq!(stack.control().all_entries(&acme.principal, ALL).await.unwrap_err().code(), "insufficient_scope");
    assert_eq!(stack.control().all_entries(stack.operator(), ALL).await.unwrap().entries.len(), 5);
    let reader: ScopeSet = "instances:read".parse().unwrap();
    assert_eq!(read(&acme.with_scopes(reader), ALL).await.unwrap_err().code(), "insufficient_scope");
    let mut walked = Vec::new();
    let mut cursor = None;
    loop {
        let request = EntriesRequest { cursor, limit: 2, ..ALL };
        let page = read(&acme.principal, request).await.unwrap();
        walked.extend(page.entries.into_iter().map(|entry| entry.record.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let all: Vec<_> = entries(&stack).await.into_iter().map(|entry| entry.record.id).collect();
    assert_eq!((walked.len(), walked), (5, all));
    let of_web = EntriesRequest { instance: Some("web".to_owned()), ..ALL };
    assert_eq!(read(&acme.principal, of_web).await.unwrap().entries.len(), 5);
    for limit in [0, 201] {
        let wrong = EntriesRequest { limit, ..ALL };
        assert_eq!(read(&acme.principal, wrong).await.unwrap_err().field(), Some("limit"));
    }
}

#[tokio::test]
async fn an_end_that_nobody_wrote_is_unknown_and_all_is_forgotten_after_its_time() {
    let stack = running().await;
    let other = stack.replica().await;
    other.attach_node(stack.agent().node(), std::sync::Arc::new(stack.agent().clone()));
    let acme = stack.acme();
    let held = other.instance_session(&acme.principal, &acme.project, "web", program(&["sleep"])).await.unwrap();
    assert_eq!(entries(&stack).await[0].state, EntryState::Open);
    // It says nothing of itself any more, as one that was killed.
    stack.advance(Duration::from_mins(1));
    assert_eq!(entries(&stack).await[0].state, EntryState::Unknown);
    drop(held);
    latest_ended(&stack).await;
    stack.advance(stack.control().config().audit_retention + Duration::from_secs(1));
    stack.background().await;
    assert_eq!(entries(&stack).await.len(), 0);
}

#[tokio::test]
async fn more_entries_than_one_batch_are_forgotten_at_once_and_long_commands_are_cut() {
    let stack = running().await;
    drop(begin(&stack, program(&["cat", &"x".repeat(30 * 1024)])).await.unwrap());
    let kept = latest_ended(&stack).await.record;
    assert_eq!(kept.command.last().map(String::as_str), Some("[cut]"));
    assert!(kept.command.iter().map(String::len).sum::<usize>() < 1_100, "{:?}", kept.command);
    for number in 0..1_200 {
        let id = AuditId::from_uuid(uuid::Uuid::from_u128(number));
        stack.store().begin_audit(&AuditRecord { id, end: None, ..kept.clone() }).await.unwrap();
    }
    stack.advance(stack.control().config().audit_retention + Duration::from_secs(1));
    stack.background().await;
    assert_eq!(entries(&stack).await.len(), 0);
}

#[tokio::test]
async fn a_process_that_stops_writes_the_ends_of_those_it_sends_away() {
    let stack = running().await;
    let session = begin(&stack, program(&["sleep"])).await.unwrap();
    let control = stack.control().clone();
    let closing = tokio::spawn(async move { control.close().await });
    drop(session);
    closing.await.unwrap().unwrap();
    let [ended] = &entries(&stack).await[..] else { panic!("one entry") };
    assert_eq!(ended.record.end.as_ref().map(|end| end.outcome), Some(AuditOutcome::Left));
}
