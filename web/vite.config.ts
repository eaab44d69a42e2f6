import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';
import { licences } from './licences.js';

// The service rewrites ./ for addresses one level below, so that the page works behind any path prefix.
export default defineConfig({
  base: './',
  plugins: [svelte(), licences()],
  build: {
    outDir: '../service/page/static',
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: { polyfill: false },
    // An inlined asset would be a data: address, which the page's policy forbids.
    assetsInlineLimit: 0,
  },
  test: { include: ['test/**/*.test.ts'] },
});
