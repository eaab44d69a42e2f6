import type { Variable } from '../api/types';

export interface PastedValue {
  code: string;
  value: string;
  unit: string;
}

const NUMBER = /[<>]=?\s*\d+(?:[.,]\d+)?|\d+(?:[.,]\d+)?/;

/**
 * Values of lines such as `CRP  112 mg/L`, `1988-5;112;mg/L` or `Sodium: 138`, and the lines in which none was found.
 *
 * A line is taken where it begins with a code or the name of a variable; nothing is guessed.
 */
export function pastedValues(text: string, variables: readonly Variable[]): { values: PastedValue[]; left: string[] } {
  const values: PastedValue[] = [];
  const left: string[] = [];
  for (const line of text.split(/\r?\n/).map((one) => one.trim()).filter(Boolean)) {
    const found = ofLine(line, variables);
    if (found) values.push(found);
    else left.push(line);
  }
  return { values, left };
}

function ofLine(line: string, variables: readonly Variable[]): PastedValue | null {
  const match = named(line, variables);
  if (!match) return null;
  const [code, unit, rest] = match;
  const number = NUMBER.exec(rest);
  if (!number || /[\w]/.test(rest.slice(0, number.index))) return null;
  const after = rest.slice(number.index + number[0].length).replace(/^[\s;,|\t]+/, '');
  const given = /^[^\s;|\t[(]+/.exec(after)?.[0] ?? '';
  return { code, value: number[0].replace(/\s/g, '').replace(',', '.'), unit: given || unit };
}

/** The longest code or name that the line begins with: its code, its usual unit, and the rest of the line. */
function named(line: string, variables: readonly Variable[]): [string, string, string] | null {
  const lower = line.toLowerCase();
  let best: [string, string, string] | null = null;
  let length = 0;
  for (const variable of variables) {
    for (const { code, unit, display } of variable.codes) {
      for (const name of [code, variable.display, variable.name, display]) {
        const ends = !/[\w-]/.test(line.charAt(name.length));
        if (name.length > length && ends && lower.startsWith(name.toLowerCase())) {
          [best, length] = [[code, unit, line.slice(name.length)], name.length];
        }
      }
    }
  }
  return best;
}
