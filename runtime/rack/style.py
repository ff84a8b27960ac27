"""How the report looks: dark and light by the reader's choice, readable on a phone, no script, nothing fetched."""

from __future__ import annotations

CSS = """
:root{color-scheme:light dark;--paper:#fff;--text:#1c1e21;--dim:#5d6470;--rule:#d8dce2;--raised:#f5f6f8;--link:#0b5cad;
--pass:#1a7431;--pass-bg:#e2f4e6;--fail:#b3131b;--fail-bg:#fde4e4;--crash:#fff;--crash-bg:#8e1219;--quirk:#7a4b00;--quirk-bg:#fdf0cf;--skip:#4c5563;--skip-bg:#e9ecf0;
--c0:#555;--c1:#0b6fb8;--c2:#c2410c;--c3:#2e7d32;--c4:#7b3fa0}
@media (prefers-color-scheme:dark){:root{--paper:#14171b;--text:#e6e8eb;--dim:#9aa3af;--rule:#333a44;--raised:#1d2127;--link:#7cb8f5;
--pass:#7fdc98;--pass-bg:#16331f;--fail:#ff9a9a;--fail-bg:#451a1c;--crash:#fff;--crash-bg:#a81c24;--quirk:#f3c76a;--quirk-bg:#3a2d0e;--skip:#aeb7c4;--skip-bg:#272d35;
--c0:#b4b9c0;--c1:#5fb2f2;--c2:#f59056;--c3:#74c97a;--c4:#c793ec}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:78rem;padding:1rem;background:var(--paper);color:var(--text);font:15px/1.45 system-ui,sans-serif}
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}h3{font-size:1rem;margin:1rem 0 .25rem;overflow-wrap:anywhere}
p{margin:.3rem 0}a{color:var(--link)}nav{margin:.6rem 0}nav a{display:inline-block;margin-right:.9rem;padding:.15rem 0}.dim{color:var(--dim)}small{font-size:.85em}
code,pre{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:.87em}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--raised);border-left:3px solid var(--rule);padding:.5rem .7rem;margin:.3rem 0;max-height:24rem;overflow:auto}
.wide{overflow-x:auto;border:1px solid var(--rule);border-radius:6px;max-width:100%}
table{border-collapse:separate;border-spacing:0;width:100%}th,td{padding:.3rem .6rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--rule)}
tr:last-child>*{border-bottom:0}thead th{background:var(--raised);font-weight:600}td.counts{min-width:9.5rem}
.matrix{width:auto;min-width:100%}.matrix th[scope=row]{font-weight:400;position:sticky;left:0;background:var(--paper);min-width:11rem;max-width:30rem;border-right:1px solid var(--rule)}
.matrix thead th:first-child{position:sticky;left:0;z-index:1;border-right:1px solid var(--rule)}.matrix td{white-space:nowrap}.matrix thead th{min-width:4.5rem;max-width:9rem;overflow-wrap:break-word}
.matrix .group th{position:sticky;left:0;background:var(--raised);font-weight:600;border-right:0}
.state{display:inline-block;font:inherit;font-size:.87em;line-height:1.35;border:0;border-radius:4px;padding:.08rem .5rem;min-width:3.1rem;text-align:center}
button.state{cursor:pointer;text-decoration:underline dotted;text-underline-offset:3px}button.state:hover{outline:2px solid currentColor}
:focus-visible{outline:3px solid var(--link);outline-offset:1px}
.pass{color:var(--pass);background:var(--pass-bg)}.fail{color:var(--fail);background:var(--fail-bg);font-weight:600}.crash{color:var(--crash);background:var(--crash-bg);font-weight:600}
.quirk{color:var(--quirk);background:var(--quirk-bg)}.skip,.none{color:var(--skip);background:var(--skip-bg)}
.was{display:inline-block;width:.5rem;height:.5rem;border-radius:2px;margin-right:.2rem;background:currentColor}.was.crash{color:var(--crash-bg)}.was.skip,.was.pass{opacity:.55}
.old{opacity:.65}[popover]{max-width:min(46rem,94vw);max-height:80vh;overflow:auto;border:1px solid var(--rule);border-radius:8px;padding:1rem;background:var(--paper);color:var(--text);white-space:normal}
[popover]::backdrop{background:#0006}.counts .state{margin:.1rem .25rem .1rem 0;min-width:0}
.alert{border:1px solid var(--fail);border-left-width:5px;border-radius:6px;padding:.5rem .8rem;margin:.8rem 0}
.bar{display:block;height:.55rem;border-radius:2px;background:var(--c1);min-width:2px}.barcell{width:50%;min-width:8rem}.bar.older{background:var(--c0);opacity:.5}
.plots{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr))}figure{margin:0;border:1px solid var(--rule);border-radius:6px;padding:.6rem}
figure svg{width:100%;max-width:36rem;height:auto;display:block}figcaption{overflow-wrap:anywhere}.paper{fill:none}svg text{fill:var(--text)}.grid{stroke:var(--rule)}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}circle.c0{fill:var(--c0)}circle.c1{fill:var(--c1)}circle.c2{fill:var(--c2)}circle.c3{fill:var(--c3)}circle.c4{fill:var(--c4)}
.key{display:inline-block;margin-right:.8rem}.key::before{content:"";display:inline-block;width:1.1rem;margin-right:.3rem;vertical-align:middle;border-top:3px var(--s) var(--k)}
ul.cells{margin:.2rem 0;padding-left:1.2rem;overflow-wrap:anywhere}ul.cells li{margin-bottom:.4rem}details>summary{cursor:pointer}
@media (max-width:40rem){body{padding:.6rem;font-size:14px}.matrix th[scope=row]{min-width:8.5rem;max-width:9.5rem}th,td{padding:.3rem .4rem}}
@media print{.wide{overflow:visible}pre{max-height:none}}
"""
