// The key: each variant's button hides and shows its curves on every chart.
for (const button of document.querySelectorAll("button.variant")) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    charts.show(button.dataset.variant, on);
  });
}
