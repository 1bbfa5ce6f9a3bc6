"""The style sheet and the script of a survey's page; both are inline, nothing is fetched from anywhere."""

from base64 import b64encode
from hashlib import sha256
from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--soft:#5a636e;--line:#d5dae1;--panel:#f6f8fa;
--good:#0b7a75;--note:#56b4e9;--warn:#e69f00;--bad:#d55e00;--fail:#7a2a8f;--rest:#9aa3ad;--on:#fff;--on-light:#1b1f24}
@media (prefers-color-scheme:dark){:root{--paper:#14181d;--ink:#e6eaef;--soft:#9aa5b1;--line:#343c46;--panel:#1d232a;
--good:#2bb3a9;--note:#7cc7f2;--warn:#f0b429;--bad:#f07b3a;--fail:#c58ad6;--rest:#6b7682;--on:#14181d;--on-light:#14181d}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1.5rem 4rem;max-width:66rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
h1{font-size:1.7rem;margin:0 0 .25rem}h2{font-size:1.2rem;margin:2.5rem 0 .75rem;border-bottom:1px solid var(--line);
padding-bottom:.3rem}h3{font-size:1rem;margin:0 0 .5rem}
p{margin:.4rem 0}.soft{color:var(--soft)}small,.small{font-size:.85rem}
code,.path{font:.85rem/1.5 ui-monospace,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;margin:1.25rem 0}
.card{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.75rem 1rem}
.card b{display:block;font-size:1.6rem;line-height:1.2;font-variant-numeric:tabular-nums}
.card span{color:var(--soft);font-size:.85rem}
figure{margin:0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(20rem,1fr));gap:1rem}
svg{max-width:100%;height:auto;display:block}svg text{font:13px system-ui,"DejaVu Sans",sans-serif;fill:var(--ink)}
svg .day,svg .none{fill:var(--soft)}svg .number{font-weight:600}
rect.good,circle.good{fill:var(--good)}rect.note,circle.note{fill:var(--note)}rect.warn,circle.warn{fill:var(--warn)}
rect.bad,circle.bad{fill:var(--bad)}rect.fail,circle.fail{fill:var(--fail)}rect.rest{fill:var(--rest)}
svg .on-good,svg .on-fail{fill:var(--on)}svg .on-note,svg .on-warn,svg .on-bad,svg .on-rest{fill:var(--on-light)}
svg .line{fill:none;stroke-width:2}svg .line.good{stroke:var(--good)}svg .line.bad{stroke:var(--bad)}
svg .area{opacity:.15}svg .area.good{fill:var(--good)}svg .area.bad{fill:var(--bad)}svg .axis{stroke:var(--line)}
.mark{display:inline-block;min-width:.75rem;height:.75rem;border-radius:.15rem;margin-right:.4rem;background:var(--rest)}
.mark.good{background:var(--good)}.mark.note{background:var(--note)}.mark.warn{background:var(--warn)}
.mark.bad{background:var(--bad)}.mark.fail{background:var(--fail)}
.legend{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;padding:0;margin:.5rem 0;list-style:none;font-size:.85rem}
.scroll{overflow-x:auto}.narrow{display:none}
@media (max-width:44rem){.broad{display:none}.narrow{display:block}}
table{border-collapse:collapse;width:100%;font-size:.85rem}
th,td{text-align:left;padding:.35rem .5rem;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
details{border:1px solid var(--line);border-radius:.5rem;margin:.5rem 0;background:var(--panel)}
details details{background:var(--paper);margin:.5rem 0}
summary{cursor:pointer;padding:.55rem .9rem;display:flex;flex-wrap:wrap;gap:.25rem .9rem;align-items:baseline}
summary::before{content:"▸";color:var(--soft)}details[open]>summary::before{content:"▾"}
summary::-webkit-details-marker{display:none}summary .where{font-weight:600;overflow-wrap:anywhere}
summary .counts{color:var(--soft)}
.inside{padding:0 .9rem .8rem}.inside h3{margin-top:.9rem}td:first-child{min-width:8rem}
.inside ul{margin:.3rem 0;padding-left:1.2rem}
.tools{display:flex;align-items:center;flex-wrap:wrap;gap:.5rem;margin:.75rem 0}
.tools button,.tools input,.tools select{font:inherit;font-size:.9rem;padding:.3rem .7rem;border-radius:.4rem;
border:1px solid var(--line);background:var(--paper);color:var(--ink)}.tools input{flex:1 1 14rem}
[hidden]{display:none!important}
@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--soft:#444;--line:#bbb;--panel:#fff;--good:#0b7a75;
--note:#56b4e9;--warn:#e69f00;--bad:#d55e00;--fail:#7a2a8f;--rest:#9aa3ad;--on:#fff;--on-light:#000}
body{max-width:none;padding:0;font-size:11pt}.tools{display:none}details,.card,svg,tr{break-inside:avoid}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""

SCRIPT: Final = """
(function(){
var all=Array.prototype.slice.call(document.querySelectorAll('details'));
var found=Array.prototype.slice.call(document.querySelectorAll('details.resource'));
var tools=document.querySelector('.tools');
if(tools){
tools.hidden=false;
var word=tools.querySelector('input'),status=tools.querySelector('select'),told=tools.querySelector('output');
var look=function(){
var count=0;
found.forEach(function(each){
var fits=(!status.value||each.dataset.status===status.value)&&
each.textContent.toLowerCase().indexOf(word.value.toLowerCase())>=0;
each.hidden=!fits;count+=fits?1:0;
});
told.textContent=count+' of '+found.length;
};
word.addEventListener('input',look);status.addEventListener('change',look);look();
tools.querySelector('button').addEventListener('click',function(){
var open=found.some(function(each){return !each.hidden&&!each.open;});
found.forEach(function(each){each.open=open;});
});
}
var closed=[];
window.addEventListener('beforeprint',function(){
closed=all.filter(function(each){return !each.open;});
closed.forEach(function(each){each.open=true;});
});
window.addEventListener('afterprint',function(){closed.forEach(function(each){each.open=false;});});
})();
"""


def policy() -> str:
    """The page's content security policy: this style, this script, and nothing else from anywhere."""
    return (
        f"default-src 'none'; style-src {_source(STYLE)}; script-src {_source(SCRIPT)};"
        " base-uri 'none'; form-action 'none'"
    )


def _source(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
