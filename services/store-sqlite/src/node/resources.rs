//! The resources on a node's row, and its count of what it must do.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Sqlite};
use wherry_model::{Architecture, Demand, IsolationSet, NodeId};
use wherry_store::StoreError;

use super::gpus;
use crate::columns::Blob;
use crate::error::{Context, violation};
use crate::gather::pieces;

/// See [`take`]. What an old binary has left behind of disk and sole tenant means nothing once the node is empty.
const TAKE: &str = "UPDATE nodes SET
     used_cpu_millis = used_cpu_millis + ?2,
     used_memory_mib = used_memory_mib + ?3,
     used_instances = used_instances + 1,
     disk_used_mib = CASE WHEN used_instances = 0 THEN 0 ELSE disk_used_mib END + ?8,
     sole_tenant = CASE WHEN ?10 THEN ?11 WHEN used_instances = 0 THEN NULL ELSE sole_tenant END
 WHERE id = ?1 AND state = 'ready' AND removed_at IS NULL
   AND CASE overcommit_cpu_percent WHEN 100 THEN capacity_cpu_millis
       ELSE capacity_cpu_millis * overcommit_cpu_percent / 100 END - used_cpu_millis >= ?2
   AND CASE overcommit_memory_percent WHEN 100 THEN capacity_memory_mib
       ELSE capacity_memory_mib * overcommit_memory_percent / 100 END - used_memory_mib >= ?3
   AND capacity_instances - used_instances >= 1
   AND (?4 IS NULL OR architecture = ?4)
   AND (NOT ?5 OR (protocol >= 2 AND heartbeats > coalesce(unfenced_heartbeats, -1)))
   AND protocol >= ?6
   AND isolation & ?7 = ?7
   AND (?8 = 0 OR disk_total_mib IS NULL OR CASE overcommit_disk_percent WHEN 100 THEN disk_total_mib
       ELSE disk_total_mib * overcommit_disk_percent / 100 END
       - CASE WHEN used_instances = 0 THEN 0 ELSE disk_used_mib END >= ?8)
   AND (?9 IS NULL OR zone = ?9)
   AND (used_instances = 0 OR (sole_tenant IS NULL AND NOT ?10) OR sole_tenant = ?11)";
/// Its parameters.
const TAKES: usize = 11;
/// The most that is taken by one statement of several.
const AT_ONCE: usize = 8;

/// Takes `demand` from the node's row if the node is ready, of the right kind and zone, fences if it must, has an agent that
/// understands what is asked, offers the isolation class, is no other tenant's alone, and has it left. The row is the referee.
pub(crate) async fn take(connection: &mut SqliteConnection, node: NodeId, demand: Demand) -> Result<bool, StoreError> {
    if let Some(asked) = &demand.gpu
        && !gpus::take(connection, node, asked).await?
    {
        return Ok(false);
    }
    let taken = asking(sqlx::query(TAKE), node, demand).execute(connection).await;
    Ok(taken.context("taking resources of a node")?.rows_affected() == 1)
}

/// The same for several, in order. False when a row refused one: then an unknown part of them is taken, and the caller rolls back.
pub(crate) async fn take_each(
    connection: &mut SqliteConnection,
    takes: &[(NodeId, Demand)],
) -> Result<bool, StoreError> {
    if takes.iter().any(|(_, demand)| demand.gpu.is_some()) {
        // Whose devices those are is read before and written after each.
        for (node, demand) in takes {
            if !take(connection, *node, *demand).await? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    for chunk in takes.chunks(AT_ONCE) {
        for piece in pieces(chunk) {
            let sql: Vec<String> = (0..piece.len()).map(|number| renumbered(TAKE, number * TAKES)).collect();
            let mut query = sqlx::query(AssertSqlSafe(sql.join("; ")));
            for (node, demand) in piece {
                query = asking(query, *node, *demand);
            }
            let taken = query.execute(&mut *connection).await.context("taking resources of nodes")?;
            if taken.rows_affected() != u64::try_from(piece.len()).unwrap_or(u64::MAX) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Of several statements in one text the numbers of parameters go on.
fn renumbered(sql: &str, by: usize) -> String {
    let mut parts = sql.split('?');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = part.split_at(digits);
        let number = number.parse::<usize>().unwrap_or_default() + by;
        text += &["?", &number.to_string(), rest].concat();
    }
    text
}

fn asking(
    query: Query<'_, Sqlite, SqliteArguments>,
    node: NodeId,
    demand: Demand,
) -> Query<'_, Sqlite, SqliteArguments> {
    query
        .bind(node.blob())
        .bind(demand.cpu.get())
        .bind(demand.memory.get())
        .bind(demand.architecture.map(Architecture::as_str))
        .bind(demand.fenced)
        .bind(demand.protocol)
        .bind(IsolationSet::from_iter([demand.isolation]).bits())
        .bind(demand.disk.get())
        .bind(demand.zone.map(|zone| zone.to_string()))
        .bind(demand.dedicated)
        .bind(demand.tenant.map(|tenant| tenant.blob()))
}

/// Gives back what [`take`] took. More than is taken is a bug of the caller.
pub(crate) async fn give_back(
    connection: &mut SqliteConnection,
    node: NodeId,
    demand: Demand,
) -> Result<(), StoreError> {
    if let Some(given) = &demand.gpu {
        gpus::give_back(connection, node, given).await?;
    }
    let given = sqlx::query(
        "UPDATE nodes SET
             used_cpu_millis = used_cpu_millis - ?2,
             used_memory_mib = used_memory_mib - ?3,
             used_instances = used_instances - 1,
             disk_used_mib = CASE WHEN used_instances = 1 THEN 0 ELSE max(disk_used_mib - ?4, 0) END,
             sole_tenant = CASE WHEN used_instances = 1 THEN NULL ELSE sole_tenant END
         WHERE id = ?1 AND used_cpu_millis >= ?2 AND used_memory_mib >= ?3 AND used_instances >= 1",
    )
    .bind(node.blob())
    .bind(demand.cpu.get())
    .bind(demand.memory.get())
    .bind(demand.disk.get())
    .execute(connection)
    .await
    .context("giving resources back to a node")?;
    if given.rows_affected() == 1 {
        Ok(())
    } else {
        Err(violation(format!("more was given back to node {node} than was taken from it")))
    }
}

/// Counts a change of what the node must do.
pub(crate) async fn bump_desired(connection: &mut SqliteConnection, node: NodeId) -> Result<(), StoreError> {
    sqlx::query("UPDATE nodes SET desired_revision = desired_revision + 1 WHERE id = ?")
        .bind(node.blob())
        .execute(connection)
        .await
        .context("counting a node's desired revision")
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_second_statement_follow_those_of_the_first() {
        assert_eq!(renumbered("a = ?1 AND b >= ?11 OR (?2)", 11), "a = ?12 AND b >= ?22 OR (?13)");
        let all: Vec<String> = (1..=TAKES).map(|number| format!("?{number}")).collect();
        assert!(all.iter().all(|parameter| TAKE.contains(parameter)) && !TAKE.contains(&format!("?{}", TAKES + 1)));
    }
}
