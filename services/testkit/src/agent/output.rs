//! What containers print, played.

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream;
use wherry_agent_api::{ExecOutcome, ExecQuery, LogQuery, LogStream, NodeError, NodeServices, Session, SessionQuery};
use wherry_model::{Generation, InstanceId};

use super::ScriptedAgent;

impl ScriptedAgent {
    /// Lets the latest run of the instance print a line.
    pub fn print(&self, instance: InstanceId, line: &str) {
        let mut machine = self.machine();
        let run = machine.instances.get(&instance).expect("the instance is on this machine").run;
        let output = machine.output.entry((instance, run)).or_default();
        output.extend_from_slice(line.as_bytes());
        output.push(b'\n');
    }

    /// Nothing can be entered that does not run there in this generation.
    pub(super) fn require_running(&self, instance: InstanceId, generation: Generation) -> Result<(), NodeError> {
        let machine = self.machine();
        let local = machine.instances.get(&instance).filter(|local| local.generation == generation);
        let running = local.filter(|local| local.running_since.is_some());
        running.map(drop).ok_or_else(|| NodeError::NotFound("the instance".to_owned()))
    }

    fn printed(&self, query: &LogQuery) -> Result<Vec<u8>, NodeError> {
        let machine = self.machine();
        let local = machine.instances.get(&query.instance);
        let run = query.run.or_else(|| local.map(|local| local.run));
        let run = run.ok_or_else(|| NodeError::NotFound("the instance".to_owned()))?;
        let written = machine.output.get(&(query.instance, run));
        let known = written.is_some() || local.is_some_and(|local| local.run >= run);
        if known { Ok(written.cloned().unwrap_or_default()) } else { Err(NodeError::NotFound("the run".to_owned())) }
    }
}

#[async_trait]
impl NodeServices for ScriptedAgent {
    /// Ends where the output ends now, also when asked to follow; timestamps are not played.
    async fn logs(&self, query: LogQuery) -> Result<LogStream, NodeError> {
        let written = self.printed(&query)?;
        let lines: Vec<Vec<u8>> = written.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let keep = query.tail.and_then(|tail| usize::try_from(tail).ok()).unwrap_or(usize::MAX);
        let skip = lines.len().saturating_sub(keep);
        Ok(stream::iter(lines.into_iter().skip(skip).map(Ok)).boxed())
    }

    /// A program that prints its own words; it runs in the present generation of what runs, and nowhere else.
    async fn exec(&self, query: ExecQuery) -> Result<ExecOutcome, NodeError> {
        self.require_running(query.instance, query.generation)?;
        let stdout = query.command.join(" ").into_bytes();
        Ok(ExecOutcome { exit_code: 0, stdout, stderr: Vec::new(), truncated: false })
    }

    async fn session(&self, query: SessionQuery) -> Result<Session, NodeError> {
        self.converse(query)
    }
}
