//! What an injection template says about the proxy's image. A template is a text of Go's `text/template` that makes YAML; it is not
//! run here, only the containers named `istio-proxy` in it are looked for, and what their `image` is.

/// What an injection template means for the proxy's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// Adds a proxy with the image that the injector computes.
    Proxy,
    /// Adds a proxy with the image that it composes from hub, name and tag of the values, as Istio's own did until 1.12
    /// (`files/injection-template.yaml` of those versions): variants do not count.
    Composed,
    /// Gives the proxy this image.
    Image(String),
    /// Gives the proxy an image by a rule of its own.
    OwnImage,
    /// Says nothing about the proxy's image.
    Neutral,
}

/// The name of the container that is the proxy.
const PROXY: &str = "istio-proxy";

/// How deep flow mappings are looked into.
const DEEPEST: usize = 32;

/// How many lines a container has at most.
const LONGEST: usize = 1000;

/// Stand around the number of an action that was taken out of the text. No YAML may hold them.
const MARK: char = '\u{1}';

impl Template {
    /// Reads a template's text.
    pub fn of_text(text: &str) -> Template {
        let (plain, actions) = without_actions(text);
        let plain = without_comments(&plain);
        let mut images = images_in_blocks(&plain);
        images.extend(images_in_flows(&plain));
        let kinds: Vec<Template> = images.iter().filter_map(|image| Template::of_image(image, &actions)).collect();
        match kinds.split_first() {
            Some((first, others)) if others.iter().all(|other| other == first) => first.clone(),
            Some(_) => Template::OwnImage,
            None if !images.is_empty() => Template::OwnImage,
            // What is saved, and no YAML at all.
            None if plain.trim() == SAVED_OWN_IMAGE => Template::OwnImage,
            None if !plain.contains(':') && actions.iter().any(|action| action.contains(".ProxyImage")) => Template::Proxy,
            None => Template::Neutral,
        }
    }

    /// What one `image` means; nothing for the branch that is only taken where the pod or the installation names a whole reference.
    fn of_image(image: &str, actions: &[String]) -> Option<Template> {
        let called: Vec<&str> = image.split(MARK).skip(1).step_by(2).filter_map(|number| action(number, actions)).collect();
        let calls = |what: &str| called.iter().any(|action| action.contains(what));
        match () {
            () if called.is_empty() => Some(Template::Image(image.to_owned())),
            () if calls(".ProxyImage") => Some(Template::Proxy),
            () if calls("sidecar.istio.io/proxyImage") => None,
            () if calls(".Values.global.hub") && calls(".Values.global.tag") => Some(Template::Composed),
            () => Some(Template::OwnImage),
        }
    }

    /// A text that is read as this again.
    pub(crate) fn sample_text(&self) -> String {
        let with = |image: &str| format!("containers:\n- name: {PROXY}\n  image: \"{image}\"\n");
        match self {
            Template::Proxy => with("{{ .ProxyImage }}"),
            Template::Composed => with("{{ .Values.global.hub }}/{{ .Values.global.proxy.image }}:{{ .Values.global.tag }}"),
            Template::Image(image) => with(image),
            Template::OwnImage => SAVED_OWN_IMAGE.to_owned(),
            Template::Neutral => String::new(),
        }
    }
}

/// How a template with a rule of its own is saved.
const SAVED_OWN_IMAGE: &str = "istio-proxy image:";

fn action<'a>(number: &str, actions: &'a [String]) -> Option<&'a str> {
    actions.get(number.parse::<usize>().ok()?).map(String::as_str)
}

/// The text with a mark in place of each action, and the actions. Comments among them are left out.
fn without_actions(text: &str) -> (String, Vec<String>) {
    let (mut plain, mut actions) = (String::with_capacity(text.len()), Vec::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((action, after)) = after.split_once("}}") else { break };
        plain.extend(before.chars().filter(|character| *character != MARK));
        if !action.trim_start_matches('-').trim_start().starts_with("/*") {
            plain.push_str(&format!("{MARK}{}{MARK}", actions.len()));
            actions.push(action.to_owned());
        }
        rest = after;
    }
    plain.extend(rest.chars().filter(|character| *character != MARK));
    (plain, actions)
}

/// Without comments, and without lines that are nothing but actions.
fn without_comments(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        let line = without_comment(line);
        let outside: String = line.split(MARK).step_by(2).collect();
        if !outside.trim().is_empty() {
            plain.push_str(line.trim_end());
            plain.push('\n');
        }
    }
    plain
}

/// A line up to its comment: a `#` at its beginning or behind a space, outside of quotes.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut last) = (None, ' ');
    for (place, character) in line.char_indices() {
        match (quote, character) {
            (None, '#') if last.is_whitespace() => return &line[..place],
            // A quote in the middle of a word is an apostrophe.
            (None, '"' | '\'') if !last.is_alphanumeric() => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
        last = character;
    }
    line
}

/// A line of block YAML: where it begins, where its key stands behind the dashes, and both sides of the colon.
struct Line<'a> {
    indent: usize,
    key_column: usize,
    is_item: bool,
    key: &'a str,
    value: &'a str,
}

impl<'a> Line<'a> {
    fn of(text: &'a str) -> Line<'a> {
        let content = text.trim_start_matches(' ');
        let indent = text.len() - content.len();
        let mut rest = content;
        while let Some(item) = rest.strip_prefix("- ") {
            rest = item.trim_start_matches(' ');
        }
        let (key, value) = rest.split_once(':').unwrap_or((rest, ""));
        let key_column = indent + content.len() - rest.len();
        Line { indent, key_column, is_item: rest.len() < content.len(), key: unquoted(key), value: unquoted(value) }
    }
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let quoted = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(text)
}

/// Whether a container of this name is the proxy, or may be: a name that an action gives may be any.
fn may_be_proxy(name: &str) -> bool {
    name == PROXY || (name.starts_with(MARK) && name.ends_with(MARK))
}

/// The images of proxies that are written as blocks: items of a list with a key `name`, on however many lines.
fn images_in_blocks(text: &str) -> Vec<String> {
    let lines: Vec<Line<'_>> = text.lines().map(Line::of).collect();
    let mut images = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        if line.key != "name" || !may_be_proxy(line.value) {
            continue;
        }
        let column = line.key_column;
        let before = lines[..=place].iter().rev().take(LONGEST).take_while(|line| line.key_column >= column);
        let Some(up) = before.enumerate().find(|(_, line)| line.is_item && line.key_column == column).map(|(up, _)| up) else {
            continue;
        };
        let behind = lines[place + 1..].iter().take(LONGEST).take_while(|line| line.indent >= column).count();
        let item = &lines[place - up..=place + behind];
        let of_item = item.iter().filter(|line| line.key_column == column && line.key == "image" && !line.value.is_empty());
        images.extend(of_item.map(|line| line.value.to_owned()));
    }
    images
}

/// The images of proxies that are written as flow mappings, `{name: istio-proxy, image: …}`, or as JSON.
fn images_in_flows(text: &str) -> Vec<String> {
    let mut images = Vec::new();
    // Of each mapping that is open: its members so far, and where the present one begins.
    let mut open: Vec<(Vec<&str>, usize)> = Vec::new();
    let (mut quote, mut lists) = (None, Vec::new());
    for (place, character) in text.char_indices() {
        match (quote, character) {
            (Some(close), _) if close == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if !open.is_empty() => quote = Some(character),
            (None, '{') if open.len() < DEEPEST => {
                open.push((Vec::new(), place + 1));
                lists.push(0_usize);
            }
            (None, '[') => lists.iter_mut().last().into_iter().for_each(|depth| *depth += 1),
            (None, ']') => lists.iter_mut().last().into_iter().for_each(|depth| *depth = depth.saturating_sub(1)),
            (None, ',') if lists.last() == Some(&0) => {
                if let Some((members, start)) = open.last_mut() {
                    members.push(&text[*start..place]);
                    *start = place + 1;
                }
            }
            (None, '}') => {
                lists.pop();
                if let Some((mut members, start)) = open.pop() {
                    members.push(&text[start..place]);
                    let members: Vec<_> = members.iter().filter_map(|member| member.split_once(':')).collect();
                    let named = |name: &'static str| {
                        members.iter().filter(move |(key, _)| unquoted(key) == name).map(|(_, value)| unquoted(value))
                    };
                    if named("name").any(may_be_proxy) {
                        images.extend(named("image").filter(|image| !image.is_empty()).map(str::to_owned));
                    }
                }
            }
            _ => {}
        }
    }
    images
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPSTREAM: &str = "metadata:\n  annotations: {\n    kubectl.kubernetes.io/default-container: istio-proxy\n  }\nspec:\n  \
        initContainers:\n  {{ if ne .A `NONE` }}\n  {{ if .Values.cni -}}\n  - name: istio-validation\n  {{ else -}}\n  - name: istio-init\n  \
        {{ end -}}\n    image: \"{{ .ProxyInitImage }}\"\n    args:\n    - istio-iptables\n  {{ end }}\n  {{ if not $nativeSidecar }}\n  containers:\n  \
        {{ end }}\n  - name: istio-proxy\n  {{- if contains \"/\" (annotation .ObjectMeta `sidecar.istio.io/proxyImage` .Values.global.proxy.image) }}\n    \
        image: \"{{ annotation .ObjectMeta `sidecar.istio.io/proxyImage` .Values.global.proxy.image }}\"\n  {{- else }}\n    image: \"{{ .ProxyImage }}\"\n  \
        {{- end }}\n    env:\n    - name: {{ $key }}\n      value: x\n  volumes:\n  - name: istio-data\n    emptyDir: {}\n";

    #[test]
    fn the_images_of_proxies_are_found_however_they_are_written() {
        let check = |text: &str, expected: Template| assert_eq!(Template::of_text(text), expected, "{text}");
        let literal = |image: &str| Template::Image(image.to_owned());
        check(UPSTREAM, Template::Proxy);
        check(&UPSTREAM.replace("\"{{ .ProxyImage }}\"", "{{.ProxyImage}}"), Template::Proxy);
        let of_1_12 =
            UPSTREAM.replace(".ProxyImage", ".Values.global.hub }}/{{ .Values.global.proxy.image }}:{{ .Values.global.tag");
        check(&of_1_12, Template::Composed);
        check("spec: {containers: [{name: istio-proxy, image: \"{{ .ProxyImage }}\"}]}", Template::Proxy);
        check("{\"spec\": {\"containers\": [\n{\"name\": \"istio-proxy\",\n\"image\": \"mine:1\"}]}}", literal("mine:1"));
        check("spec:\n  containers:\n  - image: mine:1\n    name: 'istio-proxy'\n", literal("mine:1"));
        check("spec:\n  containers:\n    -   name: istio-proxy\n        image: reg:5000/mine:1\n", literal("reg:5000/mine:1"));
        check("spec:\n  containers:\n  - name: istio-proxy\n    image: {{ .Values.mine }}\n", Template::OwnImage);
        check("spec:\n  containers:\n  - name: istio-proxy\n    image: mine:{{ .Values.global.tag }}\n", Template::OwnImage);
        check("containers:\n- name: {{ .name }}\n  image: mine:1\n", literal("mine:1"));
        let two = "containers:\n- name: istio-proxy\n  {{ if .A }}\n  image: a:1\n  {{ else }}\n  image: b:1\n  {{ end }}\n";
        check(two, Template::OwnImage);
        check("{{ .ProxyImage }}", Template::Proxy);
    }

    #[test]
    fn what_is_beside_the_proxy_says_nothing_about_its_image() {
        for text in [
            "",
            "spec:\n  initContainers: [{name: wait, image: busybox}]\n  containers: [{name: istio-proxy, env: []}]\n",
            "spec:\n  containers:\n  - name: istio-proxy\n    # image: mine:1\n    env:\n    - name: A\n      value: image\n",
            "spec:\n  containers:\n  - name: istio-proxy # image: mine:1\n  - name: other\n    image: mine:1\n",
            "spec:\n  containers:\n  - name: other\n    image: mine:1\n  - name: istio-proxy\n    resources: {limits: {cpu: 1}}\n",
            "spec:\n  containers:\n  {{/* image: mine:1 */}}\n  - name: istio-proxy\n    lifecycle:\n      image: x\n",
            "metadata:\n  name: istio-proxy\n  image: x\n",
            "spec:\n  containers:\n  - name: istio-proxy\n    env:\n    - {name: A, value: 'image: x'}\n",
        ] {
            assert_eq!(Template::of_text(text), Template::Neutral, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let image = Template::Image("mine:1".to_owned());
        for template in [Template::Proxy, Template::Composed, image, Template::OwnImage, Template::Neutral] {
            assert_eq!(Template::of_text(&template.sample_text()), template);
        }
    }

    #[test]
    fn no_text_takes_long() {
        for text in ["{".repeat(300_000), "{{".repeat(300_000), "- name: istio-proxy\n".repeat(20_000), "{a,".repeat(100_000)] {
            Template::of_text(&text);
        }
    }
}
