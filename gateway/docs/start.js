// Shows the document that this very server serves. The validator is off: it would ask another site.
SwaggerUIBundle({
  url: "/swagger/doc.json",
  dom_id: "#documentation",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  validatorUrl: null,
});
