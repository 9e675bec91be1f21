// The service worker: keeps what the page has loaded, so that it goes on in the browser when nobody else answers.

/** What this file uses of ServiceWorkerGlobalScope, whose types exclude those of the page. */
interface Worker {
  addEventListener(type: "install" | "activate", listener: (event: Lasting) => void): void;
  addEventListener(type: "fetch", listener: (event: Fetch) => void): void;
  addEventListener(type: "message", listener: (event: Lasting & { data: string[] }) => void): void;
  skipWaiting(): Promise<void>;
  clients: { claim(): Promise<void> };
}
interface Lasting {
  ports: readonly MessagePort[];
  waitUntil(work: Promise<unknown>): void;
}
interface Fetch {
  request: Request;
  respondWith(answer: Promise<Response>): void;
}
const worker = self as unknown as Worker;
const CACHE = "export-once";
const PAGE = /^\/($|icon\.svg$|api\/models$|models\/)/;
const DOWN = { up: false, reason: "no network: this page goes on by itself", variant: null, address: null };
/** What is said in the place of those that cannot be asked. */
const WITHOUT: [start: string, answer: unknown][] = [
  ["/api/status", { serving: DOWN, edge: DOWN }],
  ["/api/labels/", { labels: {}, reason: DOWN.reason }],
];

worker.addEventListener("install", (event) => event.waitUntil(worker.skipWaiting()));
worker.addEventListener("activate", (event) => event.waitUntil(worker.clients.claim()));

worker.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== location.origin) return;
  const without = WITHOUT.find(([start]) => url.pathname.startsWith(start));
  if (without) event.respondWith(fetch(request).catch(() => Response.json(without[1])));
  else if (url.pathname.startsWith("/assets/") || url.searchParams.has("h")) event.respondWith(keptFirst(request));
  else if (PAGE.test(url.pathname)) event.respondWith(freshFirst(request));
});

/** The page tells what it has loaded, and is told when all of it is kept; what is not among it belongs to an older page. */
worker.addEventListener("message", (event) => event.waitUntil(keep(event.data).then(() => event.ports[0]?.postMessage("kept"))));

/** Addresses that carry their content's hash never change. */
async function keptFirst(request: Request): Promise<Response> {
  return (await caches.match(request)) ?? freshFirst(request);
}

async function freshFirst(request: Request): Promise<Response> {
  try {
    const answer = await fetch(request);
    if (answer.ok) await keepOne(request, answer.clone());
    return answer;
  } catch (error) {
    // The page is the same whatever the question in its address.
    const kept = await caches.match(request, { ignoreSearch: request.mode === "navigate" });
    if (kept) return kept;
    throw error;
  }
}

/** A browser without room for it goes on without. */
async function keepOne(request: Request, answer: Response): Promise<void> {
  await (await caches.open(CACHE)).put(request, answer).catch(() => undefined);
}

async function keep(addresses: string[]): Promise<void> {
  const cache = await caches.open(CACHE);
  const wanted = new Set(addresses);
  const kept = await cache.keys();
  await Promise.all(kept.filter(({ url }) => !wanted.has(url)).map((request) => cache.delete(request)));
  const there = new Set(kept.map(({ url }) => url));
  await Promise.all(addresses.filter((address) => !there.has(address)).map((address) => cache.add(address)));
}
