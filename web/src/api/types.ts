/** What the service sends: `consilium/api/schemas/study.py` and `answers.py` in TypeScript. */

export type StudyState = 'queued' | 'running' | 'answered' | 'stored' | 'refused';
export type Answer = 'absent' | 'present';
export type Call = Answer | 'unknown';
export type Policy = 'after_first_read' | 'on_demand' | 'at_once';
export type FlagReason = 'model_error' | 'disagreement' | 'wrong_patient' | 'image_quality';

export interface Problem {
  type?: string;
  title: string;
  status: number;
  detail: string;
  instance?: string;
  field?: string | null;
  value?: string | null;
  rule?: string | null;
}

export interface Session {
  signed_in: boolean;
  name: string | null;
  method: 'api_key' | 'oidc' | 'anonymous' | null;
  scopes: string[];
  groups: string[];
  csrf: string | null;
  expires: string | null;
  idle_s: number | null;
  methods: ('oidc' | 'api_key')[];
  settings: { ohif: string | null; locale: string | null; letter_keys: boolean };
}

export interface KnownSession {
  session_id: string;
  caller: string;
  browser: string | null;
  created: string;
  seen: string;
  ends: string;
}

export interface OwnSessions {
  current: string;
  sessions: KnownSession[];
}

export interface Patient {
  label: string | null;
  age: number | null;
  sex: string | null;
}

export interface StudySummary {
  study_id: string;
  state: StudyState;
  created: string;
  expires: string;
  problem: Problem | null;
  studied: string | null;
  patient: Patient | null;
  modalities: string[];
  image_count: number;
  referred: boolean;
  refer_reasons: string[];
  read: 'first' | 'revised' | null;
  called: string[] | null;
  priority: number | null;
}

export interface StudyPage {
  studies: StudySummary[];
  next: string | null;
  total: number;
  searched: number | null;
}

export interface StudyAnswer {
  study_id: string;
  state: StudyState;
  created: string;
  expires: string;
  problem: Problem | null;
}

export interface Table {
  kind: 'identity8' | 'lut';
  first: number | null;
  greys: string | null;
}

export interface ImageInformation {
  number: number;
  rows: number;
  columns: number;
  bits: number;
  signed: boolean;
  table: Table;
  padding: { low: number; high: number } | null;
  windows: { center: number; width: number }[];
  /** Null where a word is no linear measure of anything. */
  quantity: { slope: number; intercept: number } | null;
  spacing_mm: [number, number] | null;
  spacing_source: string | null;
  view: string | null;
  laterality: string | null;
  acquired: string | null;
  photometric: string | null;
  source: string;
  burned_in: boolean | null;
  digest: string;
  /** SHA-256 of the words, in hex. */
  words_digest: string;
  study_instance_uid: string | null;
  pixels: 'stored' | 'pacs' | 'expired';
  warnings: string[];
}

export interface Note {
  kind: string;
  time: string | null;
  text: string;
  used: boolean;
}

export interface ObservedValue {
  code: string;
  display: string;
  value: number | string;
  comparator: '<' | '<=' | '>=' | '>' | null;
  unit: string;
  time: string | null;
  as_sent: string;
  reference_interval: { low: number; high: number } | null;
  flag: 'low' | 'normal' | 'high' | null;
  used: boolean;
}

export interface Read {
  kind: 'first' | 'revised';
  findings: Record<string, Call>;
  influenced: boolean;
  time: string;
  caller: string;
}

export interface Flag {
  reason: FlagReason;
  finding: string | null;
  time: string;
  caller: string;
}

export interface FindingName {
  name: string;
  display: string;
}

export interface StudyDetail extends StudySummary {
  images: ImageInformation[];
  notes: Note[];
  observations: ObservedValue[];
  warnings: string[];
  left_out: string[];
  priors: { study_id: string; studied: string | null; image_count: number }[];
  superseded_by: string | null;
  reading: {
    policy: Policy;
    may_see_answer: boolean;
    findings: FindingName[];
    revealed: string | null;
    first_read: Read | null;
    revised_read: Read | null;
    others: Read[];
    flags: Flag[];
  };
}

export interface Estimate {
  value: number;
  low: number;
  high: number;
}

export interface Finding {
  finding: string;
  display: string;
  code: string | null;
  probability: number;
  call: boolean;
  operating_point: { threshold: number; target_sensitivity: number; sensitivity: Estimate; specificity: Estimate };
  unimodal_probabilities: Record<string, number>;
  interval: [number, number];
  prediction_set: Answer[];
  refer_reasons: string[];
}

export interface EvidenceMap {
  rows: number;
  columns: number;
  cells: string;
  scale: number;
  box: [number, number, number, number];
}

export interface WordWeight {
  note: number;
  start_utf16: number;
  end_utf16: number;
  text: string;
  weight: number;
}

export interface ValueWeight {
  variable: string;
  display: string;
  value: string;
  unit: string;
  weight: number;
  aspect: 'value' | 'age' | 'change';
  reference: { value: number; low: number; high: number; unit: string; log_scale: boolean } | null;
}

export interface FindingEvidence {
  finding: string;
  display: string;
  log_odds: number;
  prior_log_odds: number;
  modalities: Record<string, number>;
  methods: Record<string, string>;
  parts: { image?: { image: number; map: EvidenceMap | null }[]; text?: WordWeight[]; observations?: ValueWeight[] };
}

export interface ModelIdentity {
  name: string;
  version: string;
  manifest_digest: string;
}

export interface Audit {
  verdict: 'sound' | 'suspect' | 'unusable' | 'not audited';
  reasons: string[];
}

export interface Explanation {
  findings: Finding[];
  exclusive: boolean;
  modalities: string[];
  absent: string[];
  model: ModelIdentity;
  input_digests: Record<string, string>;
  warnings: string[];
  out_of_distribution: { part: string; score: number; p_value: number; out_of_distribution: boolean }[];
  refer_reasons: string[];
  audit: Audit;
  grades: {
    target: string;
    display: string;
    grade: string;
    expected: number;
    probabilities: { grade: string; probability: number }[];
  }[];
  survival: { target: string; display: string; unit: string; without_event: { time: number; probability: number }[] }[];
  explanations: FindingEvidence[];
  neighbours: {
    pseudonym: string;
    similarity: number;
    labels: Record<string, boolean | null>;
    modalities: string[];
  }[];
  result_id: string | null;
}

export interface Variable {
  name: string;
  display: string;
  kind: 'numeric' | 'categorical' | 'yes_no';
  codes: { code: string; system: string; unit: string; display: string }[];
  unit: string;
  categories: string[];
  reference: [number, number] | null;
  reference_female: [number, number] | null;
  reference_male: [number, number] | null;
}

export interface ModelInformation {
  model: ModelIdentity;
  description: string;
  findings: { name: string; display: string; code: string | null }[];
  exclusive: boolean;
  reads: {
    modalities: string[];
    before_hours: number;
    after_hours: number;
    parts: {
      image?: { trained_on: { images: number; modality: Record<string, number>; body_part: Record<string, number> } };
      text?: { note_kinds: string[]; mask_notes: boolean };
      observations?: { variables: Variable[]; history: number };
    };
  };
  limits: { body_bytes: number } & Record<string, number>;
  weights: Record<string, { name?: string; hub_id?: string; digest?: string; licence?: string }[]>;
  audit: Audit;
  backend: { name: string; reference_studies: number; largest_deviation: number; flipped: number } | null;
  card: string | null;
  deployment: {
    follows: string | null;
    since: string;
    registry: 'reachable' | 'unreachable' | null;
    last_refusal: { model: ModelIdentity; reason: string; detail: string; time: string } | null;
    canary: ModelIdentity | null;
    canary_share: number;
    shadow: ModelIdentity | null;
  };
}

export interface ModelEvent {
  time: string;
  role: string;
  event: 'loaded' | 'removed' | 'refused';
  model: { name: string; version: string };
  detail: string | null;
}

export interface FindingCalibration {
  finding: string;
  outcomes: number;
  points: { predicted: number; observed: number; observed_low: number; observed_high: number; outcomes: number }[];
}

export interface ModelHistory {
  events: ModelEvent[];
  calibration: FindingCalibration[];
}

export interface Rates {
  day?: string;
  hour?: string;
  answers: number;
  referred: number | null;
  out_of_distribution: number | null;
  refused: number | null;
  median_ms: number | null;
  p95_ms: number | null;
}

export interface VersionFigure {
  model: string;
  version: string;
  role: string;
  answers: number;
  last: string;
  referred: number | null;
  out_of_distribution: number | null;
  compared: number | null;
  agreeing: number | null;
}

export interface OperationsAnswer {
  queue: Record<string, number>;
  stages: { stage: string; median: number; p95: number }[];
  days: Rates[];
  hours: Rates[];
  versions: VersionFigure[];
  agreement: { finding: string; reads: number; agree: number }[];
  answers_looked_at: number;
}
