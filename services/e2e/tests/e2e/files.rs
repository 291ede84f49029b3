//! `wherry run -f` and `wherry apply -f`, the forms of what is printed, and exit codes, by the real command line.

use std::fs;

use wherry_api_types::InstanceState;

use crate::support::{World, binary};

fn two(world: &World, greeting: &str) -> String {
    format!(
        "# what the shop is made of\n\
         name: web\n\
         restart_policy: never\n\
         labels: {{team: net}}\n\
         containers:\n\
         - image: {tool}\n\
         \x20 command: [/bin/sh, -c, 'trap \"exit 0\" TERM; echo $GREETING; sleep 999 & wait']\n\
         \x20 cpu: 50m\n\
         \x20 memory: 32Mi\n\
         \x20 env: [{{name: GREETING, value: {greeting}}}]\n\
         ---\n\
         name: job\n\
         restart_policy: never\n\
         containers: [{{image: {tool}, command: [/bin/sh, -c, 'exit 0'], cpu: 50m, memory: 32Mi}}]\n",
        tool = world.tool
    )
}

#[tokio::test]
async fn a_file_is_applied_as_often_as_one_likes() {
    let world = World::start().await;
    let file = world.wherry.scratch().join("shop.yaml");
    let path = file.to_str().unwrap().to_owned();
    fs::write(&file, two(&world, "HELLO")).unwrap();
    let apply = ["apply", "-f", &path];

    let dry = world.wherry.cli(&["apply", "-f", &path, "--dry-run"]).await.well();
    assert!(dry.contains("web would be created") && dry.contains("job would be created"), "{dry}");
    world.wherry.cli(&["inspect", "web"]).await.badly(3, &["web"]);
    let first = world.wherry.cli(&apply).await.well();
    for told in ["web is created", "job is created", "web runs."] {
        assert!(first.contains(told), "{told:?} is missing:\n{first}");
    }
    world.reach("job", InstanceState::Succeeded).await;
    let again = world.wherry.cli(&apply).await.well();
    assert_eq!(again, "web is so already\njob is so already\n");
    let web = world.get("web").await;

    fs::write(&file, two(&world, "GOODBYE")).unwrap();
    let dry = world.wherry.cli(&["apply", "-f", &path, "--dry-run"]).await.well();
    assert!(dry.contains("containers[0].env"), "{dry}");
    let changed = world.wherry.cli(&apply).await.well();
    assert!(changed.contains("web is updated") && changed.contains("job is so already"), "{changed}");
    world.logged("web", "GOODBYE").await;
    assert_eq!(world.get("web").await.id, web.id);

    // What is printed as a spec is a file to apply.
    fs::write(&file, world.wherry.cli(&["inspect", "web", "-o", "spec"]).await.well()).unwrap();
    assert_eq!(world.wherry.cli(&apply).await.well(), "web is so already\n");

    // A pipe gets text, in whichever form.
    let names = world.wherry.cli(&["ps", "-a", "-o", "name"]).await.well();
    assert_eq!(names.lines().count(), 2, "{names}");
    let yaml = world.wherry.cli(&["ps", "-o", "yaml"]).await.well();
    assert!(yaml.starts_with("- id: ") && yaml.contains("\n  name: web\n"), "{yaml}");
    let wide = world.wherry.cli(&["ps", "-o", "wide"]).await.well();
    assert!(wide.contains(&web.id) && wide.contains(&world.tool), "{wide}");
    assert!(![&names, &yaml, &wide].into_iter().any(|text| text.contains('\u{1b}')), "a pipe gets no colours");
    world.finish().await;
}

#[tokio::test]
async fn what_is_wrong_ends_with_a_code_that_says_what_it_is() {
    let world = World::start().await;
    let file = world.wherry.scratch().join("wrong.yaml");
    let path = file.to_str().unwrap().to_owned();
    let written = |text: String| fs::write(&file, text).unwrap();

    // 2: the file, by line; nothing is asked of the server, not even for the first document, which is right.
    written(
        two(&world, "HELLO")
            .replace("restart_policy: never\ncontainers: [", "restart_policy: sometimes\ncontainers: ["),
    );
    world.wherry.cli(&["apply", "-f", &path]).await.badly(2, &["line 13", "restart_policy", "on_failure"]);
    world.wherry.cli(&["inspect", "web"]).await.badly(3, &["web"]);
    world.wherry.cli(&["run", "-f", &path, "--cpu", "1"]).await.badly(2, &["-f"]);
    world.wherry.cli(&["apply", "-f", "/not/there.yaml"]).await.badly(2, &["/not/there.yaml"]);
    // 6: the server refuses, by field.
    written("name: web\ncontainers: [{image: r.example/a, cpu: much}]\n".to_owned());
    world.wherry.cli(&["apply", "-f", &path]).await.badly(6, &["containers[0].cpu"]);
    let image = world.tool.as_str();
    // 4: no room, said beforehand too.
    world.wherry.cli(&["run", image, "--memory", "9000Gi", "--dry-run"]).await.badly(4, &["memory"]);
    // 7: the time was over, and it goes on.
    let patient = ["run", image, "--name", "slow", "--timeout", "0s", "--", "/bin/sh", "-c", "sleep 999"];
    world.wherry.cli(&patient).await.badly(7, &["slow", "wherry wait slow"]);
    world.reach("slow", InstanceState::Running).await;
    // 6: the name is taken.
    world.wherry.cli(&["run", image, "--name", "slow"]).await.badly(6, &["slow", "in use"]);
    world.finish().await;
}

/// What bash offers for the name of an instance on this line, after the script that this program gives it.
async fn offered(world: &World, line: &str) -> String {
    let ask = "source <(\"$0\" completions bash); COMP_LINE=$1; COMP_POINT=${#COMP_LINE}; read -ra COMP_WORDS <<<\"$1\"; \
               COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _wherry_names \"$0\" \"\" \"\"; echo \"${COMPREPLY[@]}\"";
    let mut bash = tokio::process::Command::new("bash");
    bash.args(["-c", ask]).arg(binary()).arg(line).env("WHERRY_DATA", world.wherry.data());
    let output = bash.output().await.unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn names_of_instances_are_completed() {
    let mut world = World::start().await;
    let script = world.wherry.cli(&["completions", "bash"]).await.well();
    assert!(script.contains("apply"), "{script}");
    for name in ["web-one", "web-two", "other"] {
        world.wherry.cli(&["run", &world.tool, "--name", name, "--no-wait", "--", "/bin/sleep", "999"]).await.well();
    }
    assert_eq!(offered(&world, "wherry logs -f web-").await, "web-one web-two");
    assert_eq!(offered(&world, "wherry stop web-one web-").await, "web-two");
    assert!(!offered(&world, "wherry logs --").await.contains("web"), "an option is wanted");
    world.wherry.kill();
    assert!(!offered(&world, "wherry logs -f web-").await.contains("web"), "there is nobody to ask");
    world.wherry.start().await;
    world.finish().await;
}
