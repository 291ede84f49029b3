// Renders openapi.json. Everything that comes from the document is put in as text, never as markup.
"use strict";

const METHODS = ["get", "put", "post", "delete", "patch"];

/** Makes an element: attributes, then children that are elements or texts. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== ""));
  return element;
}

/** Text with `code` spans, the only markup that descriptions use. */
function prose(text) {
  return (text || "").split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

function paragraphs(text) {
  return (text || "").split("\n\n").filter(Boolean).map((part) => make("p", {}, prose(part.replaceAll("\n", " "))));
}

const refName = (reference) => reference.split("/").pop();

class Page {
  constructor(api) {
    this.api = api;
  }

  resolve(value) {
    if (!value || !value.$ref) return value;
    const found = value.$ref.slice(2).split("/").reduce((place, key) => place && place[key], this.api);
    return { ...found, ...(value.description ? { description: value.description } : {}) };
  }

  /** A short name for a type, linked to its schema where it has one. */
  type(schema) {
    if (!schema) return ["anything"];
    if (schema.$ref) return [make("a", { href: "#schema-" + refName(schema.$ref) }, refName(schema.$ref))];
    const choices = schema.oneOf || schema.anyOf || schema.allOf;
    if (choices) {
      const real = choices.filter((choice) => choice.type !== "null");
      return real.flatMap((choice, index) => [index ? " or " : "", ...this.type(choice)]);
    }
    const types = [].concat(schema.type || "anything").filter((type) => type !== "null");
    if (types[0] === "array") return ["list of ", ...this.type(schema.items)];
    if (schema.additionalProperties && schema.additionalProperties !== true && !schema.properties) {
      return ["map of text to ", ...this.type(schema.additionalProperties)];
    }
    const names = { string: "text", integer: "whole number", boolean: "true or false" };
    return [types.map((type) => names[type] || type).join(" or ")];
  }

  /** The rules that a value keeps to. */
  rules(schema) {
    const rules = [];
    const range = (low, high, what) => {
      if (low !== undefined && high !== undefined) rules.push(low === high ? `${what}${low}` : `${what}${low} to ${high}`);
      else if (low !== undefined) rules.push(`${what}at least ${low}`);
      else if (high !== undefined) rules.push(`${what}at most ${high}`);
    };
    if (schema.enum) rules.push("one of " + schema.enum.join(", "));
    range(schema.minimum, schema.maximum, "");
    range(schema.minLength, schema.maxLength, "length ");
    range(schema.minItems, schema.maxItems, "entries: ");
    if (["uuid", "date-time", "ipv4"].includes(schema.format)) rules.push(schema.format);
    if (schema.pattern) rules.push("pattern " + schema.pattern);
    return rules.join("; ");
  }

  /** An example of a value: the document's own where there is one, else made from the schema. */
  example(schema, depth = 0) {
    if (!schema || depth > 8) return null;
    if (schema.$ref) return this.example(this.resolve(schema), depth + 1);
    if (schema.examples && schema.examples.length) return schema.examples[0];
    if (schema.example !== undefined) return schema.example;
    if (schema.enum) return schema.enum[0];
    const choices = schema.oneOf || schema.anyOf || schema.allOf;
    if (choices) return this.example(choices.find((choice) => choice.type !== "null"), depth + 1);
    const type = [].concat(schema.type || [])[0];
    if (type === "object") {
      const fields = Object.entries(schema.properties || {});
      return Object.fromEntries(fields.map(([name, field]) => [name, this.example(field, depth + 1)]));
    }
    if (type === "array") return [this.example(schema.items, depth + 1)];
    if (type === "integer" || type === "number") return schema.minimum || 0;
    if (type === "boolean") return false;
    return "text";
  }

  fields(schema) {
    const required = new Set(schema.required || []);
    const rows = Object.entries(schema.properties || {}).map(([name, field]) => {
      const whole = this.resolve(field);
      const inner = (field.oneOf || []).find((choice) => choice.type !== "null") || {};
      return make("tr", {},
        make("th", { scope: "row" }, make("code", {}, name), make("small", { class: required.has(name) ? "required" : "" },
          required.has(name) ? "required" : "")),
        make("td", {}, ...prose(field.description || inner.description || whole.description),
          make("small", {}, ...this.type(field)), make("small", {}, field.$ref ? "" : this.rules(field))));
    });
    return make("table", {}, make("tbody", {}, rows));
  }

  curl(method, path, operation, body) {
    const parameters = (operation.parameters || []).map((parameter) => this.resolve(parameter));
    const filled = path.replace(/\{(\w+)\}/g, (_, name) => {
      const parameter = parameters.find((candidate) => candidate.name === name);
      return String(this.example(parameter && parameter.schema) ?? name);
    });
    const query = parameters.filter((parameter) => parameter.in === "query" && parameter.required)
      .map((parameter) => `${parameter.name}=${[].concat(this.example(parameter.schema))[0]}`).join("&");
    const lines = [`curl -sS ${method === "get" ? "" : `-X ${method.toUpperCase()} `}'${location.origin}${filled}${query ? "?" + query : ""}'`];
    if ((operation.security || []).some((need) => need.token)) lines.push(`-H "Authorization: Bearer $TOKEN"`);
    if (body && body["application/json"]) {
      lines.push(`-H 'Content-Type: application/json'`, `-d '${JSON.stringify(this.example(body["application/json"].schema))}'`);
    } else if (body) {
      lines.push(`-u "$KEY_ID:$KEY_SECRET"`, `-d grant_type=client_credentials`);
    }
    return lines.join(" \\\n  ");
  }

  operation(method, path, operation) {
    const scope = (operation.security || []).map((need) => need.token && need.token[0]).find(Boolean);
    const parameters = (operation.parameters || []).map((parameter) => this.resolve(parameter));
    const body = operation.requestBody && operation.requestBody.content;
    const command = this.curl(method, path, operation, body);
    const parts = [
      make("h3", {}, operation.summary || operation.operationId),
      make("div", { class: "route" }, make("span", { class: "method " + method }, method.toUpperCase()), make("span", {}, path),
        make("span", { class: "scope" }, scope ? "scope " + scope : "no token needed")),
      ...paragraphs(operation.description),
    ];
    if (parameters.length) {
      parts.push(make("h4", {}, "Parameters"), make("table", {}, make("tbody", {}, parameters.map((parameter) =>
        make("tr", {},
          make("th", { scope: "row" }, make("code", {}, parameter.name),
            make("small", {}, parameter.in, parameter.required ? ", required" : "")),
          make("td", {}, ...prose(parameter.description), make("small", {}, ...this.type(parameter.schema)),
            make("small", {}, parameter.schema.$ref ? "" : this.rules(parameter.schema))))))));
    }
    for (const [media, content] of Object.entries(body || {})) {
      parts.push(make("h4", {}, "Body"), make("p", {}, ...this.type(content.schema), " as ", make("code", {}, media)));
    }
    parts.push(make("h4", {}, "Try it"),
      make("pre", {}, make("button", { class: "copy", type: "button", onclick: () => navigator.clipboard.writeText(command) }, "copy"), command));
    const given = Object.entries(operation.responses);
    const own = given.filter(([, response]) => !response.$ref).map(([status, response]) => this.answer(status, response));
    const common = given.filter(([, response]) => response.$ref);
    parts.push(make("h4", {}, "Answers"), make("table", {}, make("tbody", {}, own)));
    if (common.length) {
      parts.push(make("p", { class: "common" }, "As everywhere: ", ...common.flatMap(([status, response], index) =>
        [index ? ", " : "", make("a", { href: "#answer-" + refName(response.$ref) }, status)])));
    }
    const words = [method, path, operation.operationId, operation.summary, operation.description, ...Object.keys(operation.responses)];
    return make("section", { class: "operation", id: operation.operationId, "data-words": words.join(" ").toLowerCase() }, parts);
  }

  /** A row of a table of answers. */
  answer(status, response) {
    const content = Object.entries(response.content || {});
    return make("tr", {}, make("th", { scope: "row" }, status),
      make("td", {}, ...prose(response.description),
        ...content.map(([media, value]) => make("small", {}, ...this.type(value.schema), " as ", media)),
        ...Object.entries(response.headers || {}).map(([name, header]) => make("small", {}, `${name}: ${header.description || ""}`))));
  }

  /** The answers that operations share, with the status they are given for. */
  commonAnswers(all) {
    const statuses = {};
    for (const [, , operation] of all) {
      for (const [status, response] of Object.entries(operation.responses)) {
        if (response.$ref) statuses[refName(response.$ref)] = status;
      }
    }
    const sorted = Object.entries(statuses).sort(([, one], [, two]) => one - two);
    return sorted.map(([name, status]) => {
      const row = this.answer(status, this.api.components.responses[name]);
      row.id = "answer-" + name;
      return row;
    });
  }

  schema(name, schema) {
    const parts = [make("h3", {}, name), ...paragraphs(schema.description)];
    if (schema.properties) parts.push(this.fields(schema));
    else parts.push(make("p", {}, ...this.type(schema), make("small", {}, " " + this.rules(schema))));
    parts.push(make("pre", {}, JSON.stringify(this.example(schema), null, 2)));
    return make("section", { class: "schema", id: "schema-" + name, "data-words": (name + " " + (schema.description || "")).toLowerCase() }, parts);
  }

  render(index, content) {
    const { info, paths, tags, components } = this.api;
    content.replaceChildren(make("h1", {}, info.title), ...paragraphs(info.description));
    const all = Object.entries(paths).flatMap(([path, item]) =>
      METHODS.filter((method) => item[method]).map((method) => [method, path, item[method]]));
    for (const tag of tags || []) {
      const own = all.filter(([, , operation]) => (operation.tags || []).includes(tag.name));
      if (!own.length) continue;
      content.append(make("h2", {}, tag.name), ...paragraphs(tag.description));
      index.append(make("h2", {}, tag.name));
      for (const [method, path, operation] of own) {
        content.append(this.operation(method, path, operation));
        index.append(make("a", { href: "#" + operation.operationId }, operation.summary || operation.operationId));
      }
    }
    content.append(make("h2", {}, "Common answers"), make("table", {}, make("tbody", {}, this.commonAnswers(all))));
    index.append(make("h2", {}, "Answers"), make("a", { href: "#" + (content.lastChild.querySelector("tr") || {}).id }, "Common answers"));
    content.append(make("h2", {}, "Schemas"));
    index.append(make("h2", {}, "Schemas"));
    for (const [name, schema] of Object.entries(components.schemas)) {
      content.append(this.schema(name, schema));
      index.append(make("a", { href: "#schema-" + name }, name));
    }
  }
}

function search(event) {
  const wanted = event.target.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll("section")) {
    const found = wanted.every((word) => section.dataset.words.includes(word));
    section.hidden = !found;
    const link = document.querySelector(`nav a[href="#${section.id}"]`);
    if (link) link.hidden = !found;
  }
}

async function start() {
  const content = document.getElementById("content");
  try {
    const answer = await fetch("/openapi.json");
    if (!answer.ok) throw new Error(`the service answered ${answer.status}`);
    new Page(await answer.json()).render(document.getElementById("index"), content);
    document.getElementById("search").addEventListener("input", search);
    if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  } catch (error) {
    content.replaceChildren(make("p", {}, `The document could not be shown: ${error.message}. It is at `, make("a", { href: "/openapi.json" }, "openapi.json"), "."));
  }
}

start();
