import { mount } from 'svelte';
import App from './App.svelte';
import { toPage } from './api/addresses';
import './app.css';
import { speak } from './i18n/index.svelte';
import { preferences } from './state/preferences.svelte';

// Addresses of the page differ in depth, and a browser asks for the icon again, relative to each of them.
document.querySelector('link[rel=icon]')!.setAttribute('href', toPage('icon.svg'));
await speak(preferences.locale);
mount(App, { target: document.getElementById('app')! });
