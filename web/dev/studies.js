/** Made-up studies in each state that a reader may meet, as the service describes them. */

import { createHash } from 'node:crypto';
import { film } from './film.js';

export const FINDINGS = [
  { name: 'pneumonia', display: 'Pneumonia', code: '233604007' },
  { name: 'effusion', display: 'Pleural effusion', code: '60046008' },
  { name: 'cardiomegaly', display: 'Cardiomegaly', code: '8186001' },
];
export const MODEL = { name: 'consilium-chest', version: '7', manifest_digest: '9f2c1b7a'.repeat(8) };

const HISTORY = 'Fever and productive cough for three days.\nKnown to Dr. Weber; <script>alert(1)</script> no weight loss.';
const estimate = (value) => ({ value, low: value - 0.05, high: Math.min(1, value + 0.04) });
const later = (days, hour = 9) => new Date(Date.UTC(2026, 10, 30 + days, hour, 12)).toISOString();
const base64 = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('base64');

function pixels(seed, mass, size = 1024) {
  const words = film(size, size, seed, mass);
  const low = words.reduce((one, other) => Math.min(one, other));
  const high = words.reduce((one, other) => Math.max(one, other));
  const greys = Uint8Array.from({ length: high - low + 1 }, (_, i) => Math.max(0, Math.min(255, Math.round(((low + i - 400) / 2900) * 255))));
  return { words, size, table: { kind: 'lut', first: low, greys: base64(greys) } };
}

function image(number, { words, size, table }, changes = {}) {
  return {
    number, digest: createHash('sha256').update(words).digest('hex'), words_digest: createHash('sha256').update(words).digest('hex'), study_instance_uid: '1.2.3', pixels: 'stored', rows: size, columns: size, bits: 16, signed: false, table,
    padding: null, quantity: { slope: 1, intercept: 0 }, windows: [{ center: 1850, width: 2900 }, { center: 1200, width: 1600 }],
    spacing_mm: [0.35, 0.35], spacing_source: 'ImagerPixelSpacing', view: 'PA', laterality: null, acquired: later(-1, 14), photometric: 'MONOCHROME2',
    source: 'dicom', burned_in: null, warnings: [], ...changes,
  };
}

function finding({ name, display, code }, probability, set, changes = {}) {
  return {
    finding: name, display, code, probability, call: probability >= 0.3, prediction_set: set, refer_reasons: [],
    interval: [Math.max(0, probability - 0.07), Math.min(1, probability + 0.09)],
    operating_point: { threshold: 0.3, target_sensitivity: 0.9, sensitivity: estimate(0.91), specificity: estimate(0.84) },
    unimodal_probabilities: { image: probability * 0.9, text: 0.4, observations: 0.55 }, ...changes,
  };
}

function evidence({ name, display }, strength, images) {
  const cells = Float32Array.from({ length: 64 }, (_, i) => strength * (Math.exp(-(((i >> 3) - 4.5) ** 2 + ((i & 7) - 2) ** 2) / 2.5) - 0.35 * Math.exp(-(((i >> 3) - 3) ** 2 + ((i & 7) - 5.5) ** 2) / 3)));
  const words = [['Fever', 0.62], ['productive', 0.38], ['cough', 0.71], ['Weber', 0.0, '[NAME]'], ['no weight', -0.18], ['loss', -0.31]].map(([text, weight, read]) => {
    const start = HISTORY.indexOf(text);
    return { note: 0, start, end: start + text.length, start_utf16: start, end_utf16: start + text.length, text: read ?? text, weight: weight * strength };
  });
  const value = (variable, shown, unit, given, weight, low, high, aspect = 'value') => ({ variable, display: shown, value: given, unit, weight: weight * strength, aspect, reference: { value: Number(given), low, high, unit, log_scale: false } });
  return {
    finding: name, display, log_odds: -1.9 + 3.1 * strength, prior_log_odds: -1.9, methods: { image: 'gradient_x_activation', text: 'integrated_gradients', observations: 'shapley' },
    modalities: { image: 1.4 * strength, text: 1.1 * strength, observations: 0.6 * strength },
    parts: {
      image: Array.from({ length: images }, (_, at) => ({ image: at, cells: [8, 8], peak: null, overlay: null, map: { rows: 8, columns: 8, cells: base64(cells), scale: 1, box: [0, 0, 1024, 1024], image_rows: 1024, image_columns: 1024 } })),
      text: words,
      observations: [value('crp', 'C-reactive protein', 'mg/L', '112', 0.8, 0, 5), value('wbc', 'White blood cells', '10*9/L', '13.4', 0.3, 4, 10), value('spo2', 'Oxygen saturation', '%', '97', -0.25, 95, 100), value('egfr', 'Glomerular filtration rate, estimated', 'mL/min/{1.73_m2}', '41', 0.12, 60, 120), value('creatinine', 'Creatinine', 'umol/L', '124', 0.1, 45, 84), { ...value('platelets', 'Platelets', '10*9/L', '255', -0.05, 150, 400), unit: '10*3/uL' }, { variable: 'age', display: 'Age', value: '71', unit: 'a', weight: 0.07 * strength, aspect: 'value', reference: null }],
    },
  };
}

function answerOf(images, changes = {}) {
  return {
    findings: [finding(FINDINGS[0], 0.71, ['present']), finding(FINDINGS[1], 0.34, ['absent', 'present']), finding(FINDINGS[2], 0.06, ['absent'])],
    exclusive: false, modalities: ['image', 'text', 'observations'], absent: [], model: MODEL,
    input_digests: { 'images[0]': 'b1946ac9'.repeat(8), notes: '591785b7'.repeat(8), observations: 'a3c5d2e8'.repeat(8) },
    warnings: ['observations[3]: outside the time window, left out'], out_of_distribution: [{ part: 'image', score: 1.2, p_value: 0.42, out_of_distribution: false }, { part: 'text', score: 2.9, p_value: 0.07, out_of_distribution: false }, { part: 'fused', score: 1.9, p_value: 0.31, out_of_distribution: false }],
    refer_reasons: [], audit: { verdict: 'sound', reasons: [] }, grades: [], survival: [],
    explanations: [evidence(FINDINGS[0], 1, images), evidence(FINDINGS[1], 0.4, images), evidence(FINDINGS[2], -0.3, images)],
    neighbours: [['c-4f21', 0.94, true, false, false], ['c-09aa', 0.91, true, true, null], ['c-77d0', 0.88, false, false, false]].map(([pseudonym, similarity, ...labels]) => ({ pseudonym, similarity, labels: Object.fromEntries(FINDINGS.map(({ name }, at) => [name, labels[at]])), modalities: ['image', 'text'] })),
    result_id: '7c0b3ad0-4f0e-4a53-9d0c-3a1de6e0f9b1', caller_reference: null, ...changes,
  };
}

const NOTES = [{ kind: 'history', time: later(-1, 8), text: HISTORY, used: true }];
const seen = (code, display, value, unit, low, high, flag, used = true) => ({ code, display, value, comparator: null, unit, time: later(-1, 7), as_sent: `${value} ${unit}`, reference_interval: { low, high }, flag, used });
const OBSERVATIONS = [seen('1988-5', 'C-reactive protein', 112, 'mg/L', 0, 5, 'high'), seen('6690-2', 'White blood cells', 13.4, '10*9/L', 4, 10, 'high'), seen('2708-6', 'Oxygen saturation', 97, '%', 95, 100, 'normal'), seen('2160-0', 'Creatinine', 124, 'umol/L', 45, 84, 'high'), seen('98979-8', 'Glomerular filtration rate, estimated', 41, 'mL/min/{1.73_m2}', 60, 120, 'low'), seen('8480-6', 'Systolic blood pressure', 131, 'mm[Hg]', 90, 140, 'normal'), seen('2951-2', 'Sodium', 139, 'mmol/L', 136, 145, 'normal', false)];

export function madeStudies() {
  const [pa, lateral, old] = [pixels(7, true), pixels(11, false), pixels(23, false)];
  const studies = new Map();
  const add = (number, label, changes = {}, pictures = [pa], answer = {}) => {
    const id = `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`;
    const images = changes.images ?? pictures.map((one, at) => image(at, one));
    studies.set(id, {
      words: pictures.map((one) => one.words), revealed: false,
      answer: answerOf(images.length, answer),
      detail: {
        study_id: id, state: 'answered', created: later(0, 8 + (number % 10)), expires: later(30), problem: null, studied: later(-1, 14), patient: { label, age: 71, sex: 'F' },
        modalities: ['image', 'text', 'observations'], referred: false, refer_reasons: [], read: null, called: null, priority: null,
        notes: NOTES, observations: OBSERVATIONS, warnings: [], left_out: ['Sodium of 30 Nov 2026: outside the time window'], priors: [],
        reading: { policy: 'after_first_read', may_see_answer: false, revealed: null, findings: FINDINGS.map(({ name, display }) => ({ name, display })), first_read: null, revised_read: null, others: [], flags: [] },
        ...changes, images,
      },
    });
    return id;
  };
  const reasons = ['image: unlike the training images (p 0.2 %)', 'the file says it shows a HAND'];
  const prior = add(9, 'MUSTERFRAU^Erika · 4711', { studied: later(-200), created: later(-200), images: [image(0, old, { acquired: later(-200) })] }, [old]);
  add(1, 'MUSTERFRAU^Erika · 4711', { priors: [{ study_id: prior, studied: later(-200), image_count: 1 }] }, [pa, lateral]);
  add(2, 'DOE^John · 0815', { patient: { label: 'DOE^John · 0815', age: 54, sex: 'M' }, referred: true, refer_reasons: reasons }, [lateral], {
    refer_reasons: reasons, audit: { verdict: 'suspect', reasons: ['3 % of patients lie in training and test'] }, model: { ...MODEL, version: '6', manifest_digest: '00aa11bb'.repeat(8) },
    findings: [finding(FINDINGS[0], 0.55, ['absent', 'present'], { refer_reasons: ['both answers remain at the model’s coverage'] }), finding(FINDINGS[1], 0.34, []), finding(FINDINGS[2], 0.06, ['absent'])],
  });
  add(3, null, { state: 'refused', images: [image(0, pa)], patient: { label: 'SCHMIDT^Anna · 222', age: 33, sex: 'F' }, problem: { type: 'about:blank', title: 'Unreadable image', status: 422, detail: '', instance: 'urn:uuid:1', field: 'images[0]', value: 'JPEG-LS, 41,230 bytes', rule: 'must hold all of its pixels: the stream ends early' } }, [pa]);
  add(4, null, { state: 'running', images: [], patient: null, modalities: [], notes: [], observations: [] }, []);
  add(5, 'NOVAK^Petra · 901', { images: [], modalities: ['text', 'observations'] }, [], { modalities: ['text', 'observations'], absent: ['image'] });
  add(6, 'IM WALDE^Maximiliane Theodora Augusta · 20261130-000117', { images: [image(0, old, { pixels: 'expired', warnings: ['view position unknown'] })] }, [old]);
  add(7, 'KAYA^Deniz · 31', { images: [image(0, lateral, { photometric: 'MONOCHROME1', spacing_mm: null, spacing_source: null, view: 'UNKNOWN', burned_in: true, warnings: ['no pixel spacing'] })] }, [lateral]);
  const [large, slice] = [pixels(3, true, 2048), pixels(5, false, 512)];
  add(8, 'GROSS^Bild · 2048', {}, [large]);
  add(10, 'STAPEL^Viele · 300', {}, Array.from({ length: 300 }, () => slice));
  return studies;
}

export const VARIABLES = [
  ['crp', 'C-reactive protein', '1988-5', 'mg/L', [0, 5]], ['wbc', 'White blood cells', '6690-2', '10*9/L', [4, 10]], ['sodium', 'Sodium', '2951-2', 'mmol/L', [136, 145]], ['creatinine', 'Creatinine', '2160-0', 'mg/dL', null, [0.5, 0.9], [0.7, 1.2]],
].map(([name, display, code, unit, reference, female, male]) => ({ name, display, kind: 'numeric', codes: [{ code, system: 'LOINC', unit, display }], unit, categories: [], ordered: false, normal_categories: [], reference, reference_female: female ?? null, reference_male: male ?? null, plausible: [0, null] }));
