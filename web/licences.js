import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const FILE = 'third-party-licences.txt';
const PACKAGE = /^(.*\/node_modules\/((?:@[^/]+\/)?[^/]+))\//;

/** Writes the licences of the packages of which code went into the build; `scripts/page_packages.py` reads their headings. */
export function licences() {
  return {
    name: 'licences',
    apply: 'build',
    generateBundle(_, bundle) {
      const folders = new Set();
      for (const chunk of Object.values(bundle)) {
        if (chunk.type !== 'chunk') continue;
        for (const [id, { renderedLength }] of Object.entries(chunk.modules)) {
          const found = PACKAGE.exec(id.replace(/^\0/, ''));
          if (found?.[1] && renderedLength > 0) folders.add(found[1]);
        }
      }
      this.emitFile({ type: 'asset', fileName: FILE, source: [...folders].sort().map(section).join('\n') });
    },
  };
}

function section(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file || !license) throw new Error(`${name} ${version}: holds no licence`);
  return `== ${name} ${version} (${license})\n\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
}
