"use strict";
(function () {
  var said = document.getElementById("said"), lost = document.getElementById("lost");

  function swap(part) {
    var old = document.getElementById(part.id);
    if (!old) { location.reload(); return; }
    var holder = document.createElement("template");
    holder.innerHTML = part.html;
    var fresh = holder.content.firstElementChild;
    var before = old.querySelectorAll("details"), after = fresh.querySelectorAll("details");
    for (var i = 0; i < before.length && i < after.length; i++) after[i].open = before[i].open;
    var can = "a, summary, [tabindex]";
    var focused = Array.prototype.indexOf.call(old.querySelectorAll(can), document.activeElement);
    old.replaceWith(fresh);
    var target = focused < 0 ? null : fresh.querySelectorAll(can)[focused];
    if (target) target.focus({ preventScroll: true });
  }

  function listen() {
    var source = new EventSource("events" + location.search);
    source.onopen = function () { lost.hidden = true; };
    source.onerror = function () {
      lost.hidden = false;
      if (source.readyState === 2) setTimeout(listen, 5000);
    };
    source.addEventListener("part", function (e) { swap(JSON.parse(e.data)); });
    source.addEventListener("parts", function (e) {
      var here = Array.prototype.map.call(document.querySelectorAll("main > section"), function (s) { return s.id; });
      if (here.join() !== JSON.parse(e.data).join()) location.reload();
    });
    source.addEventListener("say", function (e) { said.textContent = JSON.parse(e.data); });
  }
  listen();
})();
