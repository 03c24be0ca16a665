// What importing a .wasm file gives: a module compiled at build time, the only kind that workerd instantiates.
declare module "*.wasm" {
  const module: WebAssembly.Module;
  export default module;
}
