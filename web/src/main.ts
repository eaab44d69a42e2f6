import { mount } from 'svelte';
import App from './App.svelte';
import { toPage } from './api/addresses';
import './app.css';
import { speak } from './i18n/index.svelte';
import { preferences } from './state/preferences.svelte';

// Addresses of the page differ in depth, and a browser asks for the icon again, relative to each of them.
document.querySelector('link[rel=icon]')!.setAttribute('href', toPage('icon.svg'));
// Nothing can be shown without words.
while (!(await speak(preferences.locale))) await new Promise((resolve) => setTimeout(resolve, 2000));
mount(App, { target: document.getElementById('app')! });
