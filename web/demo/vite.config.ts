import { defineConfig } from "vite";

export default defineConfig({
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // the policy allows no data: addresses for code
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1200, // kB; the largest is tfjs-core with its converter
    rollupOptions: { input: ["index.html", "bench.html"] },
  },
});
