//! A COMMIT whose answer is lost: what it has stored is found, what it has not is stored, and nothing twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use sqlx::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use wherry_model::lifecycle::Ask;
use wherry_model::{Fact, ProjectId, ProjectName};
use wherry_pg_cluster::{Cluster, Settings};
use wherry_store::{Applied, CreateOutcome, FenceOutcome, NameOutcome, NodeStore, ProjectRecord, ReportOutcome};
use wherry_store_contract::world::{asked, at, seen, started};
use wherry_store_contract::{World, invariants};
use wherry_store_postgres::PostgresStore;

use crate::faults::world;
use crate::support::open;

/// What the proxy does to the next COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Cut {
    /// Nothing.
    Nothing,
    /// The server has it; the answer does not come back.
    Answer,
    /// The server does not get it, and sees its client go.
    Request,
    /// The server does not get it, and its client seems to be still there.
    RequestSilently,
    /// As `Request`, and the client does not learn of it before [`Proxy::let_go`].
    RequestHeld,
}

const CUTS: [Cut; 3] = [Cut::Answer, Cut::Request, Cut::RequestSilently];

#[derive(Clone)]
struct Proxy {
    address: SocketAddr,
    next: Arc<AtomicU8>,
    held: Arc<Notify>,
}

impl Proxy {
    async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Self { address, next: Arc::default(), held: Arc::default() };
        let (next, held) = (Arc::clone(&proxy.next), Arc::clone(&proxy.held));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (next, held) = (Arc::clone(&next), Arc::clone(&held));
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(upstream).await {
                        relay(client, server, &next, &held).await;
                    }
                });
            }
        });
        proxy
    }

    fn cut_next(&self, cut: Cut) {
        self.next.store(cut as u8, Ordering::SeqCst);
    }

    fn let_go(&self) {
        self.held.notify_one();
    }

    fn was_cut(&self) -> bool {
        self.next.load(Ordering::SeqCst) == Cut::Nothing as u8
    }
}

async fn relay(mut client: TcpStream, mut server: TcpStream, next: &AtomicU8, held: &Notify) {
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(read @ 1..) = read else { return };
                let is_commit = up[..read].windows(7).any(|window| window == b"COMMIT\0");
                let cut = if is_commit { next.swap(Cut::Nothing as u8, Ordering::SeqCst) } else { 0 };
                if cut == Cut::Request as u8 {
                    return;
                }
                if cut == Cut::RequestSilently as u8 {
                    drop(client);
                    // Until the server itself ends it.
                    while !matches!(server.read(&mut down).await, Ok(0) | Err(_)) {}
                    return;
                }
                if cut == Cut::RequestHeld as u8 {
                    drop(server);
                    held.notified().await;
                    return;
                }
                if server.write_all(&up[..read]).await.is_err() {
                    return;
                }
                if cut == Cut::Answer as u8 {
                    // It has committed once it answers.
                    drop(server.read(&mut down).await);
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&down[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

struct Setting {
    cluster: Cluster,
    proxy: Proxy,
    world: World,
    /// Past the proxy.
    direct: String,
}

/// A world that reaches its server through the proxy.
async fn setting() -> Setting {
    let listen = Settings { listen: Some(std::net::Ipv4Addr::LOCALHOST), ..Settings::default() };
    let cluster = Cluster::start(&listen).unwrap();
    let database = cluster.create_database().unwrap();
    PostgresStore::migrate(&cluster.url(&database)).await.unwrap();
    let url = cluster.tcp_url(&database).unwrap();
    let authority = url.split('@').nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();
    let proxy = Proxy::start(authority.parse().unwrap()).await;
    let world = world(open(&url.replace(&authority, &proxy.address.to_string())).await).await;
    Setting { cluster, proxy, world, direct: url }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_are_stored_once() {
    let Setting { proxy, world, cluster: _cluster, .. } = setting().await;
    let node = world.node_for(50).await;
    for (number, cut) in CUTS.into_iter().enumerate() {
        for keyed in [false, true] {
            let name = format!("web-{number}-{keyed}");
            let mut placed = world.create(&name, node, 1);
            placed.idempotency = keyed.then_some((name, [5; 32]));
            proxy.cut_next(cut);
            let outcome = world.store.place_and_create(&placed).await.unwrap();
            assert_eq!(outcome, CreateOutcome::Created(Box::new(placed.change.after.clone())), "{cut:?}");
            assert!(proxy.was_cut());
            assert_eq!(world.read(placed.change.after.id).await, placed.change.after);
        }
    }
    assert_eq!((world.used(node).await, world.events().await.len()), (6, 6));
    invariants::check(&world.store).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_stored_once() {
    let Setting { proxy, world, cluster: _cluster, .. } = setting().await;
    let node = world.node_for(50).await;
    for (number, cut) in CUTS.into_iter().enumerate() {
        let made = world.instance(&format!("web-{number}"), node, 1).await;
        let running = world.running(&made, 2).await;
        let events = world.events().await.len();
        let delete = asked(&running, Ask::Delete, 3);
        proxy.cut_next(cut);
        assert_eq!(world.store.apply(&delete).await.unwrap(), Applied::Yes, "{cut:?}");
        assert!(proxy.was_cut());
        let deleting = world.read(made.id).await;
        assert_eq!(deleting, delete.after);
        assert_eq!(world.events().await.len(), events + delete.events.len());
        proxy.cut_next(cut);
        let gone = world.applied(seen(&deleting, 4, Fact::Removed)).await;
        assert_eq!(world.intervals(gone.id).await.len(), 1);
    }
    assert_eq!(world.used(node).await, 0);
    invariants::check(&world.store).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_and_fencings_are_stored_once() {
    let Setting { proxy, world, cluster: _cluster, .. } = setting().await;
    let node = world.node_for(50).await;
    let journal = world.journal();
    for (number, cut) in CUTS.into_iter().enumerate() {
        let made = world.instance(&format!("web-{number}"), node, 1).await;
        let ready = seen(&made, 2, Fact::SandboxReady { address: std::net::Ipv4Addr::new(10, 7, 0, 9) });
        let runs = seen(&ready.after, 3, started(1, 3));
        let after = u64::try_from(number).unwrap() * 2;
        proxy.cut_next(cut);
        let outcome = world.store.apply_report(node, journal, after, after + 2, &[ready, runs.clone()], &[]).await;
        assert_eq!(outcome.unwrap(), ReportOutcome::Applied(after + 2), "{cut:?}");
        assert!(proxy.was_cut());
        assert_eq!(world.read(made.id).await, runs.after);
        assert_eq!(world.store.acknowledged(node, journal).await.unwrap(), after + 2);
        let epoch = world.node(node).await.epoch;
        proxy.cut_next(cut);
        let fenced = world.store.fence(node, 0, &[asked(&runs.after, Ask::Stop, 5)]).await.unwrap();
        assert_eq!(fenced, FenceOutcome::Fenced(epoch + 1), "{cut:?}");
        assert!(proxy.was_cut());
        assert_eq!(world.node(node).await.epoch, epoch + 1);
    }
    invariants::check(&world.store).await.unwrap();
}

/// What another replica has fenced meanwhile is no answer: it may have taken less, as the wait for a lease does of what an
/// operator's word takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fencing_that_was_not_stored_is_not_answered_by_that_of_another() {
    let Setting { proxy, world, cluster: _cluster, direct } = setting().await;
    let other = open(&direct).await;
    let node = world.node_for(50).await;
    let kept = world.instance("kept", node, 1).await;
    let epoch = world.node(node).await.epoch;
    let taken = asked(&kept, Ask::Stop, 5);
    proxy.cut_next(Cut::RequestHeld);
    let (store, changes) = (Arc::clone(&world.store), vec![taken.clone()]);
    let ours = tokio::spawn(async move { store.fence(node, 0, &changes).await });
    let cut = async {
        while !proxy.was_cut() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), cut).await.expect("the COMMIT is sent");
    assert_eq!(other.fence(node, 0, &[]).await.unwrap(), FenceOutcome::Fenced(epoch + 1));
    proxy.let_go();
    assert_eq!(ours.await.unwrap().unwrap(), FenceOutcome::Fenced(epoch + 2));
    assert_eq!(world.read(kept.id).await, taken.after);
    invariants::check(&world.store).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_else_is_done_once_too() {
    let Setting { proxy, world, cluster: _cluster, .. } = setting().await;
    for (number, cut) in CUTS.into_iter().enumerate() {
        let project = ProjectRecord {
            id: ProjectId::from_uuid(world.uuid()),
            tenant: world.tenant,
            name: ProjectName::new(format!("project-{number}")).unwrap(),
            created_at: at(1),
        };
        proxy.cut_next(cut);
        assert_eq!(world.store.create_project(&project).await.unwrap(), NameOutcome::Created, "{cut:?}");
        assert!(proxy.was_cut());
        proxy.cut_next(cut);
        let first = world.store.reserve("numbers", 5).await.unwrap();
        assert!(world.store.reserve("numbers", 5).await.unwrap() >= first + 5);
        proxy.cut_next(cut);
        assert_eq!(world.store.settle("word", "first").await.unwrap(), "first");
        proxy.cut_next(Cut::Nothing);
    }
    assert_eq!(world.store.projects(world.tenant, 10).await.unwrap().len(), 4);
}

/// The proxy does what the tests believe: without a store's care, a cut answer is an error and the write is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_cuts() {
    let Setting { proxy, world, cluster, .. } = setting().await;
    let url = cluster.tcp_url("postgres").unwrap();
    let authority = url.split('@').nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();
    let proxied = url.replace(&authority, &proxy.address.to_string());
    for (cut, stored) in [(Cut::Answer, true), (Cut::Request, false)] {
        let mut connection = sqlx::PgConnection::connect(&proxied).await.unwrap();
        let mut transaction = connection.begin().await.unwrap();
        let table = format!("CREATE TABLE t_{stored} ()");
        sqlx::query(sqlx::AssertSqlSafe(table)).execute(&mut *transaction).await.unwrap();
        proxy.cut_next(cut);
        transaction.commit().await.expect_err("it was cut");
        let mut direct = sqlx::PgConnection::connect(&url).await.unwrap();
        let found: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(format!("t_{stored}"))
            .fetch_one(&mut direct)
            .await
            .unwrap();
        assert_eq!(found, stored, "{cut:?}");
    }
    drop(world);
}
