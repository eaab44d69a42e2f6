/** The contract of the service with made-up studies: for work on the page alone. `node dev/server.js [port]` */

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { FINDINGS, madeStudies, MODEL, VARIABLES } from './studies.js';

const STATIC = fileURLToPath(new URL('../../service/page/static/', import.meta.url));
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html";
const TYPES = { '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.html': 'text/html', '.json': 'application/json' };
const studies = madeStudies();
let [signedIn, csrf] = [false, 1];

const READER = () => ({
  signed_in: signedIn, methods: ['oidc', 'api_key'], settings: { ohif: null, locale: null, letter_keys: true },
  ...(signedIn ? { name: 'Dr. Rivera', caller: 'key:rivera', method: 'api_key', scopes: ['read', 'diagnose', 'admin'], groups: ['chest'], csrf: String(csrf), expires: '2026-12-01T00:00:00Z', idle_s: 1800 } : {}),
});

createServer(async (request, response) => {
  try {
    await answer(request, response);
  } catch (error) {
    problem(response, 500, 'Internal error', String(error));
  }
}).listen(Number(process.argv[2] ?? 5180), '127.0.0.1', function () {
  console.log(`http://127.0.0.1:${this.address().port}/read/ (API key: any that begins with csl_)`);
});

function json(response, body, status = 200) {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' }).end(JSON.stringify(body));
}

function problem(response, status, title, detail = '', more = {}) {
  response.writeHead(status, { 'Content-Type': 'application/problem+json', ...(status === 503 ? { 'Retry-After': '2' } : {}) });
  response.end(JSON.stringify({ type: 'about:blank', title, status, detail, instance: 'urn:uuid:0', ...more }));
}

async function answer(request, response) {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  const body = await read(request);
  if (pathname === '/readyz') return json(response, {});
  if (pathname === '/dev/end-session') return (signedIn = false), json(response, {});
  if (pathname === '/read/session') return session(request, response, body);
  if (pathname.startsWith('/read')) return file(pathname, response);
  if (!signedIn) return problem(response, 401, 'Unauthorized');
  if (request.method !== 'GET' && request.headers['consilium-csrf'] !== String(csrf)) return problem(response, 403, 'Cross-site request');
  if (pathname === '/v1/model') return json(response, modelInformation());
  if (pathname === '/v1/operations') return json(response, operations());
  if (pathname === '/v1/studies') return request.method === 'POST' ? upload(response, body) : list(response, searchParams);
  if (pathname === '/v1/studies/search') return list(response, new Map(Object.entries(JSON.parse(body))));
  const [, id, rest = ''] = /^\/v1\/studies\/([\w-]+)\/?(.*)$/.exec(pathname) ?? [];
  const study = studies.get(id);
  if (!study) return problem(response, 404, 'Not found');
  if (rest === '') return json(response, study.detail);
  if (rest === 'answer') return revealed(response, study);
  if (rest === 'reads') return recorded(response, study, JSON.parse(body));
  if (rest === 'flags') return study.detail.reading.flags.push({ ...JSON.parse(body), finding: JSON.parse(body).finding ?? null, time: new Date().toISOString(), caller: 'key:rivera' }), json(response, {}, 201);
  return words(request, response, study, Number(rest.split('/')[1]));
}

async function read(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString('latin1');
}

function session(request, response, body) {
  if (request.method === 'DELETE') signedIn = false;
  if (request.method === 'POST') {
    if (!JSON.parse(body).api_key.startsWith('csl_')) return problem(response, 401, 'Unauthorized');
    [signedIn, csrf] = [true, csrf + 1];
  }
  return json(response, READER());
}

async function file(pathname, response) {
  const name = normalize(pathname.slice('/read/'.length)).replace(/^(\.\.\/?)+/, '');
  const path = extname(name) ? name : 'index.html';
  let data = await readFile(join(STATIC, path));
  if (path === 'index.html' && pathname.startsWith('/read/studies/')) data = data.toString().replaceAll('"./', '"../');
  response.writeHead(200, { 'Content-Type': TYPES[extname(path)], 'Content-Security-Policy': POLICY, 'Cache-Control': 'no-cache' }).end(data);
}

function list(response, asked) {
  const filter = asked.get('state');
  const search = asked.get('search')?.toLowerCase() ?? '';
  const found = [...studies.values()].map(({ detail }) => ({ ...detail, image_count: detail.images.length, called: detail.reading.may_see_answer ? ['Pneumonia', 'Pleural effusion'] : null }))
    .filter((one) => !filter || { waiting: one.state !== 'refused' && !one.read, read: one.read, referred: one.referred, refused: one.state === 'refused' }[filter])
    .filter((one) => (one.patient?.label ?? '').toLowerCase().includes(search))
    .sort((one, other) => other.created.localeCompare(one.created));
  return json(response, { studies: found, next: null, total: found.length });
}

function upload(response, body) {
  if (body.includes('filename="broken')) return problem(response, 422, 'Unreadable image', '', { field: 'images[0]', value: 'JPEG-LS, 41,230 bytes', rule: 'must hold all of its pixels: the stream ends early' });
  return json(response, { study_id: [...studies.keys()][1], state: 'queued', created: new Date().toISOString(), expires: new Date().toISOString(), problem: null }, 202);
}

function revealed(response, { detail, answer }) {
  if (!detail.reading.may_see_answer) return problem(response, 409, 'Not yet readable');
  detail.reading.revealed ??= new Date().toISOString();
  return json(response, answer);
}

function recorded(response, { detail }, { kind, findings }) {
  const read = { kind, findings, influenced: detail.reading.revealed !== null, time: new Date().toISOString(), caller: 'key:rivera' };
  Object.assign(detail.reading, { [`${kind}_read`]: read, may_see_answer: true });
  detail.read = kind;
  return json(response, read, 201);
}

function words(request, response, { detail, words }, number) {
  if (!detail.images[number] || detail.state !== 'answered') return problem(response, 404, 'Not found');
  const { columns } = detail.images[number];
  const differences = words[number].map((word, at, all) => (at % columns ? word - all[at - 1] : word));
  response.writeHead(200, { 'Content-Type': 'application/octet-stream', 'Consilium-Encoding': 'delta', 'Content-Encoding': 'gzip' });
  response.end(gzipSync(Buffer.from(differences.buffer), { level: 1 }));
}

function modelInformation() {
  return {
    model: MODEL, description: 'Chest films with history and laboratory values.', findings: FINDINGS, exclusive: false, targets: [],
    reads: {
      modalities: ['image', 'text', 'observations'], before_hours: 168, after_hours: 24,
      parts: { image: { trained_on: { images: 2700, modality: { DX: 2100, CR: 600 }, body_part: { CHEST: 2690 }, for_processing: 0 } }, text: { note_kinds: ['history', 'indication'], mask_notes: true }, observations: { variables: VARIABLES, history: 2 } },
    },
    limits: { body_bytes: 134217728 }, weights: {}, audit: { verdict: 'sound', reasons: [] },
    backend: { name: 'openvino', reference_studies: 16, largest_deviation: 0.00003, flipped: 0, bound: 0.01, margin: 0.1 }, card: 'model/card', search: null,
    deployment: { follows: 'champion', since: '2026-11-21T07:30:00Z', registry: 'reachable', canary: { ...MODEL, version: '8' }, canary_share: 0.1, last_refusal: { model: { ...MODEL, version: '5' }, reason: 'answers', detail: '3 of 16 reference studies have another call', time: '2026-11-20T03:10:00Z' } },
  };
}

function operations() {
  return {
    queue: { diagnoses: 0, explanations: 2, studies: 3, jobs: 0 },
    stages: [{ stage: 'decode', median: 38.2, p95: 210 }, { stage: 'model', median: 122, p95: 190 }, { stage: 'explain', median: 260, p95: 410 }],
    days: Array.from({ length: 7 }, (_, at) => ({ day: new Date(Date.UTC(2026, 10, 24 + at)).toISOString().slice(0, 10), answers: [120, 310, 288, 40, 33, 301, 295][at], referred: 0.06 + at / 300, out_of_distribution: 0.02 + at / 900 })),
    versions: [{ model: MODEL.name, version: '7', role: 'serving', answers: 1201, first: '2026-11-21T07:30:00Z', last: '2026-11-30T16:00:00Z' }, { model: MODEL.name, version: '8', role: 'canary', answers: 131, first: '2026-11-29T07:30:00Z', last: '2026-11-30T15:58:00Z' }],
    answers_looked_at: 1332,
    agreement: FINDINGS.map(({ name }, at) => ({ finding: name, reads: 210 - at, agree: 190 - 9 * at })),
  };
}
